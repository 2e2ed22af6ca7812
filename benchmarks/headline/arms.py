"""Define the arms of the headline benchmark: loops, trainings on human text alone, and other mixing policies.

Two sizes: `small`, 500 passages, with every arm; `full`, 1,500 passages, with the finalists. A step is eight sequences
of 128 tokens: 200 steps (small) or 600 (full) are about eight epochs of the human text.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Asked = dict[str, Any]
"""Recipe values that an arm sets."""


@dataclass(frozen=True)
class Size:
    """How much human text there is, how many steps are eight passes over it, and how long its loops live."""

    name: str
    passages: int
    steps: int
    generations: int


SMALL = Size("small", 500, 200, 10)
FULL = Size("full", 1_500, 600, 10)
HUMAN = "human only"
LOOP = "loop"
PERPLEXITY = "perplexity_at_best_temperature"
Courses = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
"""By arm, one course a seed: what each generation's model is like."""

_AVERAGED: Asked = {"weight_averaging_fraction": 0.3, "dropout": 0.2}
_LONGER: Asked = {"weight_averaging_fraction": 0.5, "dropout": 0.2}


def arms(size: Size) -> dict[str, Asked]:
    """Every arm of a size by its name."""
    if size is FULL:
        return dict([*_loops(size, _LONG_LOOPS), *_human_only(size, _LONG_WAYS)])
    return dict([*_loops(size, _LOOPS), *_human_only(size, _WAYS), *_policies(size)])


def best(curves: Courses, kind: str) -> str:
    """Return the arm of a kind with the lowest mean perplexity at best temperature, or an empty string."""
    found = [arm for arm, courses in curves.items() if courses and arm.startswith(kind)]
    return min(found, key=lambda arm: mean(curves[arm], PERPLEXITY), default="")


def mean(courses: Sequence[Sequence[Mapping[str, float]]], metric: str) -> float:
    """Of the last models of all seeds."""
    return statistics.mean(course[-1][metric] for course in courses)


def _residual(share: float) -> Asked:
    return {**_AVERAGED, "residual_dropout": share}


_WAYS: list[tuple[int, Asked]] = [
    *((times, {}) for times in (1, 2)),
    (2, {"weight_averaging_fraction": 0.3}),
    *((times, _AVERAGED) for times in (1, 2, 4)),
    *((times, _residual(0.1)) for times in (1, 2, 3, 4)),
    *((times, _residual(0.2)) for times in (2, 4)),
    (2, {**_residual(0.1), "weight_decay": 0.6}),
    (2, {**_residual(0.1), "learning_rate": 0.01, "embedding_learning_rate": 0.0015}),
    (30, _residual(0.2)),
]
"""Lengths as multiples of a size's steps, and what else is set.

Three times is the compute of one training of the loop, thirty times of all.
"""
_LONG_WAYS: list[tuple[int, Asked]] = [
    *((times, _AVERAGED) for times in (2, 4, 6)),
    *((times, _residual(0.1)) for times in (2, 4)),
    (4, _LONGER),
    *((4, {**_LONGER, "weight_decay": decay}) for decay in (0.15, 0.45)),
    (40, _residual(0.2)),
]
"""As above; the last has the compute of the whole loop."""
_LOOPS: list[tuple[int, int, int, Asked]] = [
    (3, 1, 8, _residual(0.1)),
    (2, 1, 3, _residual(0.1)),
    (2, 1, 3, {}),
]
"""Lengths of a training, and of the first one on human text alone, as multiples; candidates for each human record;
and what else is set.
"""
_LONG_LOOPS: list[tuple[int, int, int, Asked]] = [
    (4, 2, 8, {**mean_of, "weight_decay": 0.15}) for mean_of in (_AVERAGED, _LONGER)
]


def _human_only(size: Size, ways: list[tuple[int, Asked]]) -> Iterator[tuple[str, Asked]]:
    for times, more in ways:
        steps = times * size.steps
        yield (
            f"{HUMAN}, {steps} steps{_suffix(more)}",
            {"num_generations": 0, "train": {"generation_0_max_steps": steps, **more}},
        )


def _loops(size: Size, ways: list[tuple[int, int, int, Asked]]) -> Iterator[tuple[str, Asked]]:
    """All human text, last in each training, and fresh candidates at temperature 1."""
    for times, first, candidates, more in ways:
        steps = times * size.steps
        train = {
            "human_ratio_schedule": "ramp",
            "max_steps": steps,
            "generation_0_max_steps": first * size.steps,
            **more,
        }
        yield (
            f"{LOOP}, {candidates} a record, {steps} steps{_suffix(more)}",
            {
                "num_generations": size.generations,
                "mix": {"policy": "anchor"},
                "prompts": {"prompts_per_human_record": candidates},
                "train": train,
            },
        )


def _suffix(more: Asked) -> str:
    return "".join(
        f", {'averaged' if key == 'weight_averaging_fraction' else key.replace('_', ' ')} {value}"
        for key, value in more.items()
        if key != "embedding_learning_rate"
    )


def _policies(size: Size) -> Iterator[tuple[str, Asked]]:
    """Five generations at equal steps, one candidate per human record unless set otherwise."""
    train = {"max_steps": size.steps, "generation_0_max_steps": size.steps // 2}
    curated: Asked = {}
    plain: Asked = {"filters": []}
    mixed = {policy: {"policy": policy} for policy in ("replace", "accumulate", "anchor")}
    halves = {f"fixed fraction {share}": {"policy": "fixed-fraction", "human_fraction": share} for share in (0.1, 0.5)}
    # Curation leaves fewer candidates than a fixed size asks for.
    for temperature, curate, policies in (
        (1.0, plain, mixed | halves),
        (0.7, plain, mixed | halves),
        (1.0, curated, mixed),
        (0.7, curated, mixed),
    ):
        for policy, mix in policies.items():
            name = f"{policy}, T {temperature}, {'not curated' if curate is plain else 'curated'}"
            asked = {"mix": mix, "generate": {"temperature": temperature}, "curate": curate, "train": train}
            yield name, {"num_generations": 5, **asked}
