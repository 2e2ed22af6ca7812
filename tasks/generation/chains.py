"""Feed a frozen model its own last output, step after step: the chains that `curation/theory/chains.py` analyzes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
"""Placeholder for the last output in a template."""

_PASSAGE_CHARACTERS = (120, 600)
_MAX_PASSAGES = 1500
_HELDOUT_STRIDE = 5
"""Every fifth passage is not trained on, and can start a chain."""


@dataclass(frozen=True, kw_only=True)
class ChainSpec:
    """Length of a chain, and how each of its steps is sampled."""

    steps: int
    """Number of outputs of each chain."""
    sampling: Sampling
    """Sampler and its settings."""
    template: str = ""
    """Prompt of each step, with `{text}` for the last output; empty: the middle third of the last output."""
    seed: int = 0


def run_chain(model: Path, seeds: Sequence[str], spec: ChainSpec, backends: Backends) -> Chains:
    """Sample one chain from each seed text, all chains in step.

    Args:
        model: folder of the model, or its name for a server.
        seeds: first texts.
        spec: length and sampling of the chains.
        backends: open backends.

    Raises:
        HeirloomError: the template does not contain `{text}`.
    """
    template = spec.template
    if template and TEXT not in template:
        raise HeirloomError(
            f"the template {template!r} does not contain {TEXT}; put {TEXT} in place of the last output"
        )

    def sample_step(texts: Sequence[str], step: int) -> list[str]:
        prompts = [
            Prompt(
                template.replace(TEXT, text) if template else middle_third(text),
                derive_seed(spec.seed, "chain", step, chain),
            )
            for chain, text in enumerate(texts)
        ]
        completions = backends.sampler(spec.sampling).sample(model, prompts, lambda *_: None)
        return [completion.text for completion in completions]

    return run_chains(sample_step, seeds, spec.steps)


def middle_third(text: str) -> str:
    """Return the middle third of the words, each with the white space before it; empty for a text of one word."""
    words = re.findall(r"\s*\S+", text)
    return "".join(words[len(words) // 3 : 2 * len(words) // 3])


def train_demo_model(folder: Path, chains: int, backends: Backends) -> list[str]:
    """Train a small n-gram model of Python's own documentation, and return one seed text per chain.

    Args:
        folder: folder of the model.
        chains: number of seed texts; the model is not trained on them.
        backends: open backends.

    Raises:
        HeirloomError: there are fewer seed texts than `chains`.
    """
    corpus = TrainingCorpus(human=[text for row, text in enumerate(_passages()) if row % _HELDOUT_STRIDE], synthetic=())
    job = TrainJob(settings=NgramTraining(), corpus=corpus, folder=folder, seed=0)
    backends.trainer().train(job, lambda *_: None)
    return chain_seeds(chains)


def chain_seeds(chains: int) -> list[str]:
    """Return passages of Python's own documentation that the small model was not trained on, one per chain.

    Raises:
        HeirloomError: there are fewer passages than `chains`.
    """
    heldout = _passages()[::_HELDOUT_STRIDE]
    if chains > len(heldout):
        raise HeirloomError(
            f"there are only {len(heldout)} passages to start from; set at most that many chains, not {chains}"
        )
    return heldout[:chains]


@cache
def _passages() -> list[str]:
    shortest, longest = _PASSAGE_CHARACTERS
    passages = (text for text, _ in iter_docstrings() if shortest <= len(text) <= longest)
    return list(islice(passages, _MAX_PASSAGES))
