"""Measure the value of an imperfect verifier.

Accuracy of a linear classifier trained on the synthetic labels that it keeps.

Feng, Dohmatob, Yang, Charton, Kempe 2024, "Beyond model collapse", arXiv:2406.07515. A share p of labels is wrong; a
correct one is kept with probability phi, a wrong one with psi. Up to p* = 1 / (1 + psi / phi)
(`benchmarks.theory.closed_form.verifier_break_even`) accuracy converges to 1 with more data, above it to 0.
"""

import numpy as np

_DIMENSIONS = 20


def accuracy(wrong: float, keeps_right: float, keeps_wrong: float, seed: int, *, records: int = 40_000) -> float:
    """Share of Gaussian points on the right side of the fitted plane, which is exactly 1 - angle / pi; one run.

    The plane is fitted to what is kept of `records` labels by least squares.
    """
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((records, _DIMENSIONS))
    truth = np.sign(points[:, 0])
    flipped = rng.random(records) < wrong
    kept = rng.random(records) < np.where(flipped, keeps_wrong, keeps_right)
    labels = np.where(flipped, -truth, truth)[kept]
    seen = points[kept]
    plane = np.linalg.solve(seen.T @ seen, seen.T @ labels)
    return float(1 - np.arccos(plane[0] / np.linalg.norm(plane)) / np.pi)
