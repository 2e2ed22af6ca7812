"""Attribute error to finite samples, limited capacity and imperfect optimization, in a toy model and in a transformer.

The transformer is trained on samples of a bigram model, which are unlimited and whose loss under the bigram model is
the floor. The student's loss above the floor is its divergence from the teacher; each source is measured by switching
it off.
"""

import itertools
import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, short
from benchmarks.theory.sources import ErrorSources, divergences, one_hump, two_humps
from curation.passages import split_passages
from storage.readers.python_docs import iter_docstrings
from tasks.backends import (
    Completion,
    NgramTraining,
    Prompt,
    Resources,
    Sampling,
    TrainingCorpus,
    TrainJob,
    TransformerTraining,
)
from tasks.backends.registry import Backends, open_backends
from tests.support.progress import ignore_progress

_SOURCES = {"samples": "finite samples", "capacity": "limited capacity", "optimization": "imperfect optimization"}
_STUDENT = TransformerTraining(
    hidden_size=128,
    num_hidden_layers=1,
    context_length=128,
    batch_size=4,
    vocab_size=700,
    optimizer="adamw",
    learning_rate=0.005,
    lr_scheduler="linear",
    warmup_ratio=0.05,
    weight_decay=0,
    precision="float32",
)
_NARROW = {"hidden_size": 32, "num_attention_heads": 1, "learning_rate": 0.01}
"""What is smaller of a student of limited capacity, and the rate that suits it."""
_JUDGED, _MEASURED, _LONGEST = 500, 1500, 40
"""Texts that choose the best length of a training, texts that measure it, and the words of the longest among them."""

Cells = Mapping[frozenset[str], float]
"""Loss above the teacher's, in nats per word, by the sources that are on."""


def sources(*, samples: int = 500, rounds: int = 20, runs: int = 100) -> Iterator[Figure]:
    """Shumailov et al. 2024, Nature 631:755: finite samples, limited capacity, imperfect optimization."""
    none = divergences(two_humps(), ErrorSources(), rounds, 0, 1)
    yield Figure(
        f"none of the three: distance after {rounds} rounds", short(none[-1]), "", "0: no drift", none[-1] < 1e-9
    )
    chance = divergences(two_humps(), ErrorSources(samples=samples), rounds, 0, runs)
    yield Figure(
        f"{samples} samples: distance in round 1 / 10 / {rounds}",
        _format_distances(chance, rounds),
        "",
        "drifts in every round",
        bool((np.diff(chance) > 0).all()),
    )
    more = divergences(two_humps(), ErrorSources(samples=100 * samples), rounds, 0, runs)
    yield Figure(
        f"{100 * samples} samples: distance after {rounds} rounds",
        short(more[-1]),
        "",
        "vanishes with the samples",
        more[-1] < chance[-1] / 5,
    )
    narrow = divergences(two_humps(), ErrorSources(one_gaussian=True), rounds, 0, 1)
    yield Figure("two modes by one Gaussian: distance in round 1", short(narrow[0]), "", "> 0", narrow[0] > 0.1)
    yield Figure(
        f"the same: change from round 1 to {rounds}",
        short(abs(narrow[-1] - narrow[0])),
        "",
        "0: bites in round 1 alone",
        abs(narrow[-1] - narrow[0]) < 1e-6,
    )
    fits = divergences(one_hump(), ErrorSources(one_gaussian=True), rounds, 0, 1)
    yield Figure("one mode by one Gaussian: distance", short(fits[-1]), "", "0", fits[-1] < 1e-6)
    stopped = divergences(two_humps(), ErrorSources(steps=100), rounds, 0, 1)
    yield Figure(
        f"descent stopped after 100 steps: distance in round 1 / 10 / {rounds}",
        _format_distances(stopped, rounds),
        "",
        "adds to itself in every round",
        bool((np.diff(stopped) > 0).all()),
    )
    longer = divergences(two_humps(), ErrorSources(steps=400), rounds, 0, 1)
    yield Figure(
        f"the same after 400 steps: distance in round {rounds}", short(longer[-1]), "", "less", longer[-1] < stopped[-1]
    )


def split(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    lines: int = 40,
    samples: int = 500,
    lengths: Sequence[int] = (60, 150, 400),
) -> Iterator[Figure]:
    """The same three in a transformer.

    Few samples or endless ones, narrow or wide, the shortest training or the best of `lengths` steps.
    """
    cells: list[Cells] = []
    more: list[float] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder, open_backends(Resources(), Path(folder) / "logs") as backends:
            teacher = _teacher(Path(folder), seed, lines, lengths[-1], backends)
            found: dict[frozenset[str], float] = {}
            for count, narrow in itertools.product((samples, None), (True, False)):
                on = frozenset({"samples"} if count else ()) | frozenset({"capacity"} if narrow else ())
                found[on | {"optimization"}], found[on] = teacher.taught(count, narrow, lengths, backends)
            cells.append(found)
            more.append(teacher.taught(4 * samples, False, lengths, backends)[1])
    yield from _parts(cells)
    yield from _with_more(cells, more, samples)


def shapley(cells: Cells) -> dict[str, list[float]]:
    """What switching a source off takes away, source by source, in each order of switching all of them off.

    Their means are Shapley's values.
    """
    sources = sorted(frozenset().union(*cells))
    found: dict[str, list[float]] = {source: [] for source in sources}
    for order in itertools.permutations(sources):
        for place, source in enumerate(order):
            still = frozenset(order[place:])
            found[source].append(cells[still] - cells[still - {source}])
    return found


def _parts(cells: Sequence[Cells]) -> Iterator[Figure]:
    every, none = frozenset(_SOURCES), frozenset[str]()
    values = " / ".join(f"{statistics.mean(one[on] for one in cells):.3f}" for on in (every, none))
    yield Figure("loss above the teacher's, all three on / all three off, mean of seeds", values, "nats per word")
    orders = [shapley(one) for one in cells]
    for source, name in _SOURCES.items():
        parts = [statistics.mean(one[source]) for one in orders]
        yield Figure(
            f"{name}: part of it, mean / minimum over seeds",
            f"{statistics.mean(parts):.3f} / {min(parts):.3f}",
            "nats per word",
            "> 0: a source of error",
            min(parts) > 0,
        )
    for source, name in _SOURCES.items():
        alone = [one[frozenset({source})] - one[none] for one in cells]
        yield Figure(
            f"{name} alone: loss above that of none, mean / minimum over seeds",
            f"{statistics.mean(alone):.3f} / {min(alone):.3f}",
            "nats per word",
            "> 0",
            min(alone) > 0,
        )
    ranges = (
        [statistics.mean(values) for values in zip(*(one[source] for one in orders), strict=True)]
        for source in _SOURCES
    )
    values = " / ".join(f"{min(one):.2f} to {max(one):.2f}" for one in ranges)
    yield Figure(f"part by order of switching off: {' / '.join(_SOURCES)}, mean of seeds", values, "nats per word")
    rest = max(one[none] / one[every] for one in cells)
    yield Figure(
        "what remains with all three off, maximum over seeds", short(rest), "share", "< 0.1: (ours)", rest < 0.1
    )


def _with_more(cells: Sequence[Cells], more: Sequence[float], samples: int) -> Iterator[Figure]:
    """What finite samples alone cost, and with four times as many."""
    few, none = [one[frozenset({"samples"})] for one in cells], [one[frozenset[str]()] for one in cells]
    values = " / ".join(f"{statistics.mean(one):.3f}" for one in (few, more, none))
    yield Figure(f"{samples} / {4 * samples} / endless samples alone, mean of seeds", values, "nats per word")
    left = max((b - c) / (a - c) for a, b, c in zip(few, more, none, strict=True))
    yield Figure(
        "part of finite samples alone that four times as many leave, maximum over seeds",
        short(left),
        "share",
        "< 0.5, about 1/4: vanishes with the samples",
        left < 0.5,
    )


@dataclass(frozen=True)
class _Teacher:
    """Training, validation and test samples of a bigram model; `spelled` is the students' tokenizer data."""

    teacher_texts: list[str]
    judged: list[Completion]
    measured: list[Completion]
    spelled: Path
    texts_a_step: int
    folder: Path
    seed: int

    def taught(
        self, samples: int | None, narrow: bool, lengths: Sequence[int], backends: Backends
    ) -> tuple[float, float]:
        """Loss above the teacher's after the shortest training, and after the best.

        Longer ones are tried until one is worse.
        """
        found: list[tuple[float, float]] = []
        for steps in lengths:
            settings = _STUDENT.model_copy(update={**(_NARROW if narrow else {}), "max_steps": steps})
            texts = self.teacher_texts[: samples or steps * self.texts_a_step]
            folder = self.folder / f"{samples}-{narrow}-{steps}"
            folder.mkdir()
            corpus = TrainingCorpus([], texts)
            job = TrainJob(settings=settings, corpus=corpus, gen0_model=self.spelled, folder=folder, seed=self.seed)
            backends.trainer().train(job, ignore_progress)
            judged, measured = (_above(folder, some, settings, backends) for some in (self.judged, self.measured))
            found.append((judged, measured))
            if len(found) > 1 and found[-1][0] > found[-2][0]:
                break
        return found[0][1], min(found)[1]


def _teacher(folder: Path, seed: int, lines: int, most_steps: int, backends: Backends) -> _Teacher:
    """A model of a few sentences of documentation, and enough of its words that no training sees one twice."""
    human = list(dict.fromkeys(cut for text, _ in iter_docstrings() for cut in split_passages(text, 20, 100).texts))
    drawn = np.random.default_rng(seed).permutation(len(human))[:lines]
    model, spelled = folder / "teacher", folder / "spelled"
    model.mkdir()
    counting = NgramTraining(order=2)
    corpus = TrainingCorpus([human[place] for place in drawn], [])
    backends.trainer().train(TrainJob(settings=counting, corpus=corpus, folder=model, seed=seed), ignore_progress)

    def sample_texts(count: int, first: int) -> list[Completion]:
        prompts = [Prompt("", first + place) for place in range(count)]
        how = Sampling(sampler="ngram", max_tokens=200)
        return list(backends.sampler(how).sample(model, prompts, ignore_progress))

    samples = [one for one in sample_texts(2 * (_JUDGED + _MEASURED), 0) if one.completion_tokens <= _LONGEST]
    some = [one.text for one in sample_texts(4000, 10**6)]
    from tasks.backends.training.tokenizer import train_bpe_tokenizer

    tokenizer = train_bpe_tokenizer(some, _STUDENT.vocab_size, _STUDENT.context_length)
    tokenizer.save_pretrained(spelled)
    tokens = statistics.mean(len(one.ids) + 2 for one in tokenizer.backend_tokenizer.encode_batch(some))
    texts_a_step = math.ceil(1.1 * _STUDENT.batch_size * _STUDENT.context_length / tokens)
    teacher_texts = [one.text for one in sample_texts(most_steps * texts_a_step, 10**7)]
    return _Teacher(
        teacher_texts, samples[:_JUDGED], samples[_JUDGED : _JUDGED + _MEASURED], spelled, texts_a_step, folder, seed
    )


def _above(student: Path, samples: Sequence[Completion], settings: TransformerTraining, backends: Backends) -> float:
    """NLL per word, the end token included, of a student above the teacher on samples of the teacher."""
    scores = backends.scorer(settings).score(student, [one.text for one in samples], (1.0,), ignore_progress)
    floor = sum(one.sum_logprob or 0 for one in samples)
    return (sum(one.nll[0] for one in scores) + floor) / sum(one.completion_tokens + 1 for one in samples)


def _format_distances(distances: Sequence[float], rounds: int) -> str:
    return " / ".join(f"{distances[one - 1]:.3f}" for one in (1, 10, rounds))


if __name__ == "__main__":
    for row in (sources, split):
        for figure in row():
            print(figure.name, figure.value, figure.unit, "|", figure.goal, figure.holds, flush=True)
