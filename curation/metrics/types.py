"""Types of metric values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """A metric with its interval, where one is known; a value that is no number is NaN."""

    value: float
    low: float | None = None
    high: float | None = None


Metrics = Mapping[tuple[str, str], Value]
"""By subject and metric, of all sources together; subject may be `human` too."""
