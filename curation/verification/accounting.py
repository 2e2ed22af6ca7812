"""Account for a verifier: what it keeps of right and of wrong answers, and whether it helps or harms.

Feng, Dohmatob, Yang, Charton, Kempe, "Beyond Model Collapse: Scaling Up with Synthesized Data Requires Verification"
(2024, arXiv:2406.07515): training on verified data improves while the error rate of the generator is below
p* = 1 / (1 + psi / phi).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share with its confidence interval."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; NaN without any observation."""
        return self.count / self.total if self.total else math.nan


@dataclass(frozen=True, kw_only=True)
class VerifierAccount:
    """What a verifier keeps, measured on a sample of answers that are labelled right or wrong."""

    phi: Proportion
    """Share of the right answers that it keeps."""
    psi: Proportion
    """Share of the wrong answers that it keeps."""
    error_rate: Proportion
    """Share of wrong answers before verification."""
    error_rate_kept: Proportion
    """Share of wrong answers among the kept ones."""

    @property
    def break_even(self) -> float:
        """Largest error rate of the generator at which training on what the verifier keeps still improves: p*."""
        return break_even(self.phi.value, self.psi.value)

    @property
    def break_even_low(self) -> float:
        """Lower bound of p*, from the lower bound of phi and the upper bound of psi."""
        return break_even(self.phi.low, self.psi.high)

    @property
    def is_harmful(self) -> bool:
        """Whether the sample shows that the verifier makes the data worse: its kept answers are more often wrong."""
        return self.phi.high < self.psi.low

    @property
    def is_beyond_break_even(self) -> bool:
        """Whether the sample shows an error rate above p*, so that training on what is kept loses accuracy."""
        return self.error_rate.low > break_even(self.phi.high, self.psi.low)


def account_for_verifier(kept: Sequence[bool], right: Sequence[bool]) -> VerifierAccount:
    """Measure a verifier on a labelled sample.

    Args:
        kept: whether the verifier kept each answer.
        right: whether each answer is right, by a label that does not come from the verifier.

    Raises:
        ValueError: the sequences differ in length.
    """
    kept_array, right_array = np.asarray(kept, bool), np.asarray(right, bool)
    if kept_array.shape != right_array.shape:
        raise ValueError(f"{len(kept_array)} verdicts for {len(right_array)} labels")
    return VerifierAccount(
        phi=wilson_interval(int((kept_array & right_array).sum()), int(right_array.sum())),
        psi=wilson_interval(int((kept_array & ~right_array).sum()), int((~right_array).sum())),
        error_rate=wilson_interval(int((~right_array).sum()), len(right_array)),
        error_rate_kept=wilson_interval(int((kept_array & ~right_array).sum()), int(kept_array.sum())),
    )


def break_even(phi: float, psi: float) -> float:
    """Return p* = 1 / (1 + psi / phi), the largest error rate at which verified data still improves a model.

    It is 1 for a verifier that keeps no wrong answer, and 0 for one that keeps no right answer but some wrong one.
    """
    if math.isnan(phi) or math.isnan(psi) or phi == psi == 0:
        return math.nan
    return phi / (phi + psi)


def wilson_interval(count: int, total: int, z: float = 1.959964) -> Proportion:
    """Return a share with its Wilson score interval (Wilson 1927); [0, 1] without any observation.

    Args:
        count: observations that count.
        total: all observations.
        z: quantile of the normal distribution; the default gives 95 %.
    """
    if not total:
        return Proportion(count=0, total=0, low=0.0, high=1.0)
    share = count / total
    denominator = 1 + z**2 / total
    center = (share + z**2 / (2 * total)) / denominator
    half_width = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / denominator
    return Proportion(
        count=count,
        total=total,
        low=0.0 if count == 0 else max(0.0, center - half_width),
        high=1.0 if count == total else min(1.0, center + half_width),
    )


def pass_at_k(num_samples: NDArray[np.int64], num_right: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return pass@k of each problem: the probability of a right answer among k, estimated without bias.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1).

    Args:
        num_samples: answers to each problem, shape (problems,).
        num_right: right ones among them, shape (problems,).
        k: answers that may be tried.

    Returns:
        Shape (problems,).

    Raises:
        ValueError: a problem has fewer than k answers.
    """
    if len(num_samples) and num_samples.min() < k:
        raise ValueError(f"pass@{k} of a problem with {num_samples.min()} answers")
    fails = np.array(
        [
            math.prod(1.0 - k / j for j in range(total - right + 1, total + 1)) if total - right >= k else 0.0
            for total, right in zip(num_samples.tolist(), num_right.tolist(), strict=True)
        ]
    )
    return 1.0 - fails


def answer_entropies(answers: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the entropy in nats of the answers to each problem, shape (problems,).

    It falls toward 0 as a model gives the same answer every time, which is called entropy collapse.
    """
    entropies = []
    for given in answers:
        shares = np.array(list(Counter(given).values())) / len(given)
        entropies.append(float(-(shares * np.log(shares)).sum()))
    return np.array(entropies)
