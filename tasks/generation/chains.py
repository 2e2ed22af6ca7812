"""Let a frozen model go on with its own last output, again and again: the chains that `curation/theory/chains.py` looks at."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path

from curation.theory.chains import Chains, run_chains
from heirloom.errors import HeirloomError
from storage.artifacts.ids import derive_seed
from storage.readers.python_docs import iter_docstrings
from tasks.backends import NgramTraining, Prompt, Sampling, TrainingCorpus, TrainJob
from tasks.backends.registry import Backends

TEXT = "{text}"
"""Stands in a template for the last output."""

_PASSAGE = (120, 600)
_PASSAGES = 1500


def run_chain(
    model: Path, seeds: Sequence[str], steps: int, sampling: Sampling, template: str, seed: int, backends: Backends
) -> Chains:
    """Chains from these texts; without a template a model goes on from the middle third of its last output.

    Raises:
        HeirloomError: the template has no place for the last output.
    """
    if template and TEXT not in template:
        raise HeirloomError(f"the template {template!r} holds no {TEXT}: write where the last output goes")

    def speak(texts: Sequence[str], step: int) -> list[str]:
        asked = [
            Prompt(
                template.replace(TEXT, text) if template else middle_third(text),
                derive_seed(seed, "chain", step, place),
            )
            for place, text in enumerate(texts)
        ]
        return [one.text for one in backends.sampler(sampling).sample(model, asked, lambda *_: None)]

    return run_chains(speak, seeds, steps)


def middle_third(text: str) -> str:
    """The middle third of the words, each with the space before it, so that the text's end is not its own; nothing of one."""
    words = re.findall(r"\s*\S+", text)
    return "".join(words[len(words) // 3 : 2 * len(words) // 3])


def train_demo_model(folder: Path, chains: int, backends: Backends) -> list[str]:
    """Leave a small n-gram model of Python's own documentation in a folder; returns so many passages that it has not seen.

    Raises:
        HeirloomError: more chains are asked for than there are passages to begin from.
    """
    corpus = TrainingCorpus(human=[text for place, text in enumerate(_passages()) if place % 5], synthetic=())
    job = TrainJob(settings=NgramTraining(), corpus=corpus, folder=folder, seed=0)
    backends.trainer().train(job, lambda *_: None)
    return chain_seeds(chains)


def chain_seeds(chains: int) -> list[str]:
    """So many passages of Python's own documentation, none of which the small model has seen.

    Raises:
        HeirloomError: there are fewer.
    """
    apart = _passages()[::5]
    if chains > len(apart):
        raise HeirloomError(f"{chains} chains were asked for, and there are {len(apart)} passages to begin from")
    return apart[:chains]


@cache
def _passages() -> list[str]:
    fitting = (text for text, _ in iter_docstrings() if _PASSAGE[0] <= len(text) <= _PASSAGE[1])
    return list(islice(fitting, _PASSAGES))
