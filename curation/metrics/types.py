"""Types of metric values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """Value of a metric with its confidence interval, if it has one; NaN if it could not be computed."""

    value: float
    low: float | None = None
    high: float | None = None


Metrics = Mapping[tuple[str, str], Value]
"""Values by (subject, metric), over all sources together; subjects are model, candidates, corpus and human."""
