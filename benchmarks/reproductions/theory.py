"""Reproduce results on feedback, verification and fresh data with toy models of `benchmarks/theory`."""

from collections.abc import Iterator

import numpy as np

from benchmarks.figures import Figure, short
from benchmarks.theory.closed_form import admissible_synthetic, fresh_loop_error, verifier_break_even
from benchmarks.theory.feedback import chosen_among, curated_trajectories, effective_types, reward_variance
from benchmarks.theory.verifying import accuracy


def feedback(*, outcomes: int = 50, rounds: int = 30) -> Iterator[Figure]:
    """Ferbach, Bertrand, Bose, Gidel 2024, arXiv:2407.09499."""
    reward = np.linspace(0, 2, outcomes)
    courses = {share: curated_trajectories([reward], share, rounds) for share in (0.0, 0.1, 0.3, 0.5)}
    types = {share: float(effective_types(one[-1])) for share, one in courses.items()}
    spread = {share: float(reward_variance(one[-1], reward)) for share, one in courses.items()}
    yield Figure(
        "no human share: effective outcomes of 50",
        short(types[0]),
        "",
        "collapses onto the best rewarded",
        types[0] < 3,
    )
    yield Figure("the same: variance of the reward", short(spread[0]), "", "goes to 0", spread[0] < 0.01)
    yield Figure(
        "the same: reward rises in every round",
        str(bool((np.diff(courses[0.0] @ reward) > 0).all())).lower(),
        "",
        "true",
        bool((np.diff(courses[0.0] @ reward) > 0).all()),
    )
    yield Figure("human share 0.3: effective outcomes", short(types[0.3]), "", "> 20: stable", types[0.3] > 20)
    yield Figure(
        "effective outcomes at human share 0 / 0.1 / 0.3 / 0.5",
        " / ".join(f"{one:.1f}" for one in types.values()),
        "",
        "in rising order",
        [*types.values()] == sorted(types.values()),
    )
    late = curated_trajectories([reward], 0.3, 1000)
    drift = float(np.abs(late[-1] - late[-2]).sum())
    yield Figure("human share 0.3: change in round 1000", short(drift), "share", "0: it settles", drift < 1e-6)
    two = curated_trajectories([reward, 2 - reward], 0, rounds)[-1]
    yield Figure(
        "two opposing rewards: share of the two best rewarded outcomes, minimum of the two",
        short(float(min(two[0], two[-1]))),
        "",
        "both modes stay",
        float(min(two[0], two[-1])) > 0.1,
    )
    start = np.full(outcomes, 1 / outcomes)
    apart = [
        float(np.abs(chosen_among(start, reward, many, 40_000, 0) - courses[0.0][1]).sum() / 2) for many in (2, 8, 64)
    ]
    yield Figure(
        "one of K = 2 / 8 / 64 answers: total variation from the law of many answers",
        " / ".join(f"{one:.3f}" for one in apart),
        "",
        "to 0 as K grows",
        apart == sorted(apart, reverse=True) and apart[-1] < 0.02,
    )


def verification(*, seeds: int = 5, margin: float = 0.02, records: int = 100_000) -> Iterator[Figure]:
    """Feng, Dohmatob, Yang, Charton, Kempe 2024, arXiv:2406.07515."""
    for keeps_right, keeps_wrong in ((1.0, 1.0), (0.9, 0.3), (0.7, 0.05)):
        edge = verifier_break_even(keeps_right, keeps_wrong)
        below, above = (
            [accuracy(edge + away, keeps_right, keeps_wrong, seed, records=records) for seed in range(seeds)]
            for away in (-margin, margin)
        )
        name = f"phi = {keeps_right}, psi = {keeps_wrong}, p* = {edge:.3f}"
        yield Figure(
            f"{name}: accuracy at p* - {margin}, minimum over seeds",
            short(min(below)),
            "",
            "> 0.7, to 1 with more data",
            min(below) > 0.7,
        )
        yield Figure(
            f"{name}: accuracy at p* + {margin}, maximum over seeds",
            short(max(above)),
            "",
            "< 0.3, to 0 with more data",
            max(above) < 0.3,
        )
    less, more = (accuracy(0.48, 1, 1, 0, records=records) for records in (10_000, 160_000))
    yield Figure(
        "no verifier, p = 0.48: accuracy with 10,000 and 160,000 labels",
        f"{less:.2f} / {more:.2f}",
        "",
        "rises",
        more > less,
    )


def fresh_data(*, dimensions: int = 100, seeds: int = 3) -> Iterator[Figure]:
    """Alemohammad et al. 2023, arXiv:2307.01850: the fresh-data loop."""
    sizes = (50, 100, 200, 400, 800, 1600)

    def ratios(bias: float) -> list[float]:
        rows = []
        for seed in range(seeds):
            alone = fresh_loop_error(200, 0, bias, seed, dimensions=dimensions)
            rows.append([fresh_loop_error(200, size, bias, seed, dimensions=dimensions) / alone for size in sizes])
        return [float(one) for one in np.mean(rows, axis=0)]

    results = {bias: ratios(bias) for bias in (1.0, 0.85, 0.7)}
    for bias, published, agrees in (
        (1.0, "< 1 for all: always helps", max(results[1.0]) < 1),
        (0.85, "falls, then rises", min(results[0.85]) < results[0.85][0] and results[0.85][-1] > min(results[0.85])),
        (0.7, "falls, then rises, and hurts: > 1 at 1600", min(results[0.7]) < 1 < results[0.7][-1]),
    ):
        values = " / ".join(f"{one:.2f}" for one in results[bias])
        yield Figure(
            f"n_r = 200, lambda = {bias}: error over human alone, n_s = 50 ... 1600", values, "", published, agrees
        )
    yield from _admissible(dimensions, seeds)


def _admissible(dimensions: int, seeds: int) -> Iterator[Figure]:
    found = {
        (human, bias): sorted(admissible_synthetic(human, bias, seed, dimensions=dimensions) for seed in range(seeds))[
            seeds // 2
        ]
        for human in (200, 400)
        for bias in (1.0, 0.85, 0.7, 0.5)
    }
    for human in (200, 400):
        row = [found[human, bias] for bias in (1.0, 0.85, 0.7, 0.5)]
        results = " / ".join(map(str, row))
        yield Figure(
            f"n_r = {human}: admissible n_s of 50 ... 1600 at lambda 1 / 0.85 / 0.7 / 0.5, median of seeds",
            results,
            "",
            "shrinks with more bias",
            row == sorted(row, reverse=True) and row[0] > row[-1],
        )
    grown = all(found[400, bias] <= found[200, bias] for bias in (0.7, 0.5))
    yield Figure(
        "admissible n_s with twice the human samples, biased", str(grown).lower(), "", "does not grow: true", grown
    )
