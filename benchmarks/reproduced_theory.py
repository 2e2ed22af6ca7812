"""Rows whose laws are told by toys that learn from themselves: seconds each, on `curation/theory` and `curation/forecast.py`."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.figures import Figure, short
from curation.forecast import admissible_synthetic, fresh_loop_error, regression_error, verifier_break_even
from curation.theory.feedback import chosen_among, curated_courses, effective_types, reward_variance
from curation.theory.refitting import (
    POLICIES,
    Numbers,
    Policy,
    counts_of,
    course,
    density_loss,
    die,
    gaussian,
    kernel_density,
    regression_errors,
)
from curation.theory.sources import Switches, divergences, one_hump, two_humps
from curation.theory.verifying import accuracy


def policies(*, regressions: int = 1000, runs: int = 1000, seed: int = 0) -> Iterator[Figure]:
    """Gerstgrasser et al. 2024, arXiv:2404.01413; Kazdan et al. 2024, arXiv:2410.16713; on toys."""
    replaced, accumulated = regression_error(111, 10, 1, 10)
    laws: dict[Policy, tuple[float, str]] = {
        "replace": (replaced, "n times the first error"),
        "accumulate": (accumulated, "sum of 1/i^2 times"),
        "accumulate-subsample": (0.30, "between the two"),
    }
    for policy, (law, told) in laws.items():
        ours = regression_errors(policy, 10, seed, runs=regressions)[-1]
        yield Figure(
            f"regression, d = 10, T = 111: test error after 10 fits, {policy}",
            short(ours),
            "",
            f"{law:.3f}, {told}",
            abs(ours / law - 1) <= 0.1,
        )
    yield from _gaussians(runs, seed)
    yield from _densities(seed)
    yield from _dice(seed)


def _gaussians(runs: int, seed: int) -> Iterator[Figure]:
    many = np.random.default_rng(seed).standard_normal((10 * runs, 100))
    unbiased, likeliest = (
        _last(course(gaussian(100, unbiased=one), "replace", many, 100, seed)) for one in (True, False)
    )
    median = float(np.median(unbiased.var(1, ddof=1)))
    yield Figure(
        "Gaussian, M = 100, replace: median of the unbiased variance after 100 rounds",
        short(median),
        "",
        "0.364 = exp(-100/99), within 0.04",
        abs(median - 0.364) <= 0.04,
    )
    mean = float(likeliest.var(1, ddof=1).mean())
    yield Figure(
        "the same: mean of the likeliest variance",
        short(mean),
        "",
        "0.366 = (1 - 1/M)^100, within 0.02",
        abs(mean - 0.366) <= 0.02,
    )
    yield Figure(
        "the same: mean of the unbiased variance, which hides the loss",
        short(float(unbiased.var(1, ddof=1).mean())),
        "",
        "1 in expectation",
    )
    human = many[: runs // 3]
    kept = {
        policy: float(np.median(_last(course(gaussian(100), policy, human, 100, seed)).var(1))) for policy in POLICIES
    }
    for policy in POLICIES[1:]:
        yield Figure(
            f"the same: median of the likeliest variance, {policy}",
            short(kept[policy]),
            "",
            f"stays; replace {kept['replace']:.2f}",
            kept[policy] > 0.85 > 2 * kept["replace"],
        )


def _densities(seed: int) -> Iterator[Figure]:
    dice = np.random.default_rng(seed)
    heldout, human = dice.standard_normal(300), dice.standard_normal((20, 100))
    for bandwidth in (0.1, 0.5, 1.0):
        rise = {}
        for policy in POLICIES:
            first, *_, last = course(kernel_density(100, bandwidth), policy, human, 30, seed)
            rise[policy] = density_loss(last, bandwidth, heldout) - density_loss(first, bandwidth, heldout)
        told = " / ".join(f"{rise[policy]:.2f}" for policy in POLICIES)
        ordered = rise["replace"] > rise["accumulate-subsample"] > rise["accumulate"]
        yield Figure(
            f"kernel density, bandwidth {bandwidth}: held-out loss gained in 30 rounds, {' / '.join(POLICIES)}",
            told,
            "nats",
            "in falling order",
            ordered,
        )


def _dice(seed: int, outcomes: int = 200, records: int = 1000) -> Iterator[Figure]:
    zipf = 1 / np.arange(1, outcomes + 1)
    zipf /= zipf.sum()
    human = np.random.default_rng(seed).choice(outcomes, size=(50, records), p=zipf).astype(float)
    left: dict[tuple[float, str], float] = {}
    for temperature in (1.0, 0.3):
        for policy in POLICIES:
            *_, last = course(die(records, outcomes, temperature), policy, human, 10, seed)
            counts = counts_of(last, outcomes)
            left[temperature, policy] = float(np.log(effective_types(counts / counts.sum(1, keepdims=True))).mean())
    for temperature in (1.0, 0.3):
        told = [left[temperature, policy] for policy in POLICIES]
        yield Figure(
            f"die of {outcomes}, T = {temperature}: entropy after 10 rounds, {' / '.join(POLICIES)}",
            " / ".join(f"{one:.2f}" for one in told),
            "nats",
            "in rising order",
            told == sorted(told),
        )
    yield Figure(
        "die, replace: entropy at T = 0.3 after 10 rounds",
        short(left[0.3, "replace"]),
        "nats",
        "nothing is left: bias is far worse than chance",
        left[0.3, "replace"] < 0.01 < left[1.0, "replace"],
    )
    *_, last = course(
        die(50, 20), "replace", np.random.default_rng(seed).integers(0, 20, (50, 50)).astype(float), 600, seed
    )
    alone = float(((counts_of(last, 20) > 0).sum(1) == 1).mean())
    yield Figure(
        "die of 20, 50 throws, replace: runs with one outcome left after 600 rounds",
        short(alone),
        "share",
        "1 in the long run",
        alone >= 0.99,
    )


def feedback(*, outcomes: int = 50, rounds: int = 30) -> Iterator[Figure]:
    """Ferbach, Bertrand, Bose, Gidel 2024, arXiv:2407.09499."""
    reward = np.linspace(0, 2, outcomes)
    courses = {share: curated_courses([reward], share, rounds) for share in (0.0, 0.1, 0.3, 0.5)}
    types = {share: float(effective_types(one[-1])) for share, one in courses.items()}
    spread = {share: float(reward_variance(one[-1], reward)) for share, one in courses.items()}
    yield Figure(
        "no human share: effective outcomes left of 50",
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
    late = curated_courses([reward], 0.3, 1000)
    drift = float(np.abs(late[-1] - late[-2]).sum())
    yield Figure("human share 0.3: change in round 1000", short(drift), "share", "0: it settles", drift < 1e-6)
    two = curated_courses([reward, 2 - reward], 0, rounds)[-1]
    yield Figure(
        "two opposing rewards: share of the two best rewarded outcomes, least of them",
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
            f"{name}: accuracy at p* - {margin}, least of seeds",
            short(min(below)),
            "",
            "> 0.7, to 1 with more data",
            min(below) > 0.7,
        )
        yield Figure(
            f"{name}: accuracy at p* + {margin}, most of seeds",
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

    told = {bias: ratios(bias) for bias in (1.0, 0.85, 0.7)}
    for bias, published, agrees in (
        (1.0, "< 1 for all: always helps", max(told[1.0]) < 1),
        (0.85, "falls, then rises", min(told[0.85]) < told[0.85][0] and told[0.85][-1] > min(told[0.85])),
        (0.7, "falls, then rises, and hurts: > 1 at 1600", min(told[0.7]) < 1 < told[0.7][-1]),
    ):
        values = " / ".join(f"{one:.2f}" for one in told[bias])
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
        told = " / ".join(map(str, row))
        yield Figure(
            f"n_r = {human}: admissible n_s of 50 ... 1600 at lambda 1 / 0.85 / 0.7 / 0.5, median of seeds",
            told,
            "",
            "shrinks with more bias",
            row == sorted(row, reverse=True) and row[0] > row[-1],
        )
    grown = all(found[400, bias] <= found[200, bias] for bias in (0.7, 0.5))
    yield Figure(
        "admissible n_s with twice the human samples, biased", str(grown).lower(), "", "does not grow: true", grown
    )


def sources(*, samples: int = 500, rounds: int = 20, runs: int = 100) -> Iterator[Figure]:
    """Shumailov et al. 2024, Nature 631:755: finite samples, limited capacity, imperfect optimisation."""
    none = divergences(two_humps(), Switches(), rounds, 0, 1)
    yield Figure(
        f"none of the three: distance after {rounds} rounds", short(none[-1]), "", "0: no drift", none[-1] < 1e-9
    )
    chance = divergences(two_humps(), Switches(samples=samples), rounds, 0, runs)
    yield Figure(
        f"{samples} samples: distance in round 1 / 10 / {rounds}",
        _told(chance, rounds),
        "",
        "drifts in every round",
        bool((np.diff(chance) > 0).all()),
    )
    more = divergences(two_humps(), Switches(samples=100 * samples), rounds, 0, runs)
    yield Figure(
        f"{100 * samples} samples: distance after {rounds} rounds",
        short(more[-1]),
        "",
        "vanishes with the samples",
        more[-1] < chance[-1] / 5,
    )
    narrow = divergences(two_humps(), Switches(one_gaussian=True), rounds, 0, 1)
    yield Figure("two modes by one Gaussian: distance in round 1", short(narrow[0]), "", "> 0", narrow[0] > 0.1)
    yield Figure(
        f"the same: change from round 1 to {rounds}",
        short(abs(narrow[-1] - narrow[0])),
        "",
        "0: bites in round 1 alone",
        abs(narrow[-1] - narrow[0]) < 1e-6,
    )
    fits = divergences(one_hump(), Switches(one_gaussian=True), rounds, 0, 1)
    yield Figure("one mode by one Gaussian: distance", short(fits[-1]), "", "0", fits[-1] < 1e-6)
    stopped = divergences(two_humps(), Switches(steps=100), rounds, 0, 1)
    yield Figure(
        f"descent stopped after 100 steps: distance in round 1 / 10 / {rounds}",
        _told(stopped, rounds),
        "",
        "adds to itself in every round",
        bool((np.diff(stopped) > 0).all()),
    )
    longer = divergences(two_humps(), Switches(steps=400), rounds, 0, 1)
    yield Figure(
        f"the same after 400 steps: distance in round {rounds}", short(longer[-1]), "", "less", longer[-1] < stopped[-1]
    )


def _last(told: Iterator[Numbers]) -> Numbers:
    return deque(told, maxlen=1)[0]


def _told(distances: Sequence[float], rounds: int) -> str:
    return " / ".join(f"{distances[one - 1]:.3f}" for one in (1, 10, rounds))
