"""Run replace, accumulate and accumulate-subsample on toy models.

Regression, Gaussians, kernel densities, discrete distributions.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

from benchmarks.figures import Figure, short
from benchmarks.theory.closed_form import regression_error
from benchmarks.theory.feedback import effective_types
from benchmarks.theory.refitting import (
    POLICIES,
    Numbers,
    Policy,
    counts_of,
    density_loss,
    die,
    gaussian,
    kernel_density,
    regression_errors,
    training_data_by_generation,
)


def policies(*, regressions: int = 1000, runs: int = 1000, seed: int = 0) -> Iterator[Figure]:
    """Gerstgrasser et al. 2024, arXiv:2404.01413; Kazdan et al. 2024, arXiv:2410.16713; on toys."""
    replaced, accumulated = regression_error(111, 10, 1, 10)
    laws: dict[Policy, tuple[float, str]] = {
        "replace": (replaced, "n times the first error"),
        "accumulate": (accumulated, "sum of 1/i^2 times"),
        "accumulate-subsample": (0.30, "between the two"),
    }
    for policy, (law, expected) in laws.items():
        ours = regression_errors(policy, 10, seed, runs=regressions)[-1]
        yield Figure(
            f"regression, d = 10, T = 111: test error after 10 fits, {policy}",
            short(ours),
            "",
            f"{law:.3f}, {expected}",
            abs(ours / law - 1) <= 0.1,
        )
    yield from _gaussians(runs, seed)
    yield from _densities(seed)
    yield from _categorical(seed)


def _gaussians(runs: int, seed: int) -> Iterator[Figure]:
    many = np.random.default_rng(seed).standard_normal((10 * runs, 100))
    unbiased, likeliest = (
        _last(training_data_by_generation(gaussian(100, unbiased=one), "replace", many, 100, seed))
        for one in (True, False)
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
        "the same: mean of the unbiased variance, which hides the collapse",
        short(float(unbiased.var(1, ddof=1).mean())),
        "",
        "1 in expectation",
    )
    human = many[: runs // 3]
    kept = {
        policy: float(np.median(_last(training_data_by_generation(gaussian(100), policy, human, 100, seed)).var(1)))
        for policy in POLICIES
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
    rng = np.random.default_rng(seed)
    heldout, human = rng.standard_normal(300), rng.standard_normal((20, 100))
    for bandwidth in (0.1, 0.5, 1.0):
        rise = {}
        for policy in POLICIES:
            first, *_, last = training_data_by_generation(kernel_density(100, bandwidth), policy, human, 30, seed)
            rise[policy] = density_loss(last, bandwidth, heldout) - density_loss(first, bandwidth, heldout)
        expected = " / ".join(f"{rise[policy]:.2f}" for policy in POLICIES)
        ordered = rise["replace"] > rise["accumulate-subsample"] > rise["accumulate"]
        yield Figure(
            f"kernel density, bandwidth {bandwidth}: held-out loss increase in 30 rounds, {' / '.join(POLICIES)}",
            expected,
            "nats",
            "in falling order",
            ordered,
        )


def _categorical(seed: int, outcomes: int = 200, records: int = 1000) -> Iterator[Figure]:
    zipf = 1 / np.arange(1, outcomes + 1)
    zipf /= zipf.sum()
    human = np.random.default_rng(seed).choice(outcomes, size=(50, records), p=zipf).astype(float)
    left: dict[tuple[float, str], float] = {}
    for temperature in (1.0, 0.3):
        for policy in POLICIES:
            *_, last = training_data_by_generation(die(records, outcomes, temperature), policy, human, 10, seed)
            counts = counts_of(last, outcomes)
            left[temperature, policy] = float(np.log(effective_types(counts / counts.sum(1, keepdims=True))).mean())
    for temperature in (1.0, 0.3):
        expected = [left[temperature, policy] for policy in POLICIES]
        yield Figure(
            f"die of {outcomes}, T = {temperature}: entropy after 10 rounds, {' / '.join(POLICIES)}",
            " / ".join(f"{one:.2f}" for one in expected),
            "nats",
            "in rising order",
            expected == sorted(expected),
        )
    yield Figure(
        "die, replace: entropy at T = 0.3 after 10 rounds",
        short(left[0.3, "replace"]),
        "nats",
        "0: sampling bias is far worse than sampling noise",
        left[0.3, "replace"] < 0.01 < left[1.0, "replace"],
    )
    *_, last = training_data_by_generation(
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


def _last(expected: Iterator[Numbers]) -> Numbers:
    return deque(expected, maxlen=1)[0]
