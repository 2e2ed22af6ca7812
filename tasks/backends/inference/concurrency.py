"""How much one server can take, learned from its answers as TCP learns from a network.

Additive increase, multiplicative decrease (Chiu & Jain 1989), with slow start below the last known threshold.
"""

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tasks.backends.inference.http_protocol import TransientServerError

_LONGEST_PAUSE = 30.0
_FIRST_PAUSE = 0.25


@dataclass
class ConcurrencyLimit:
    """One server, and what its answers say about how much it can take."""

    address: str
    limit: float
    threshold: float = float("inf")
    in_flight: int = 0
    backoff_until: float = 0.0
    failures: int = 0
    changed: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    def succeeded(self, slow: bool, began: float, most: int) -> None:
        """Take in that a request which began then was answered; `slow` answers count as a sign of too many."""
        if slow:
            self._cut(began)
            return
        self.failures = 0
        self.limit = min(most, self.limit + (1 if self.limit < self.threshold else 1 / self.limit))

    def failed(self, trouble: TransientServerError, began: float) -> None:
        """Take in that a request which began then was not answered."""
        self.errors[str(trouble)] += 1
        now = time.monotonic()
        if self._cut(began):
            self.failures += 1
            if trouble.unreachable:
                self.limit = 1.0
            if trouble.unreachable or trouble.busy:
                self.backoff_until = max(self.backoff_until, now + backoff_seconds(self.failures))
        self.backoff_until = max(self.backoff_until, now + trouble.retry_after)

    def _cut(self, began: float) -> bool:
        """Halve the limit, once for all requests that were in flight together."""
        if began < self.changed:
            return False
        self.threshold = self.limit = max(1.0, self.limit / 2)
        self.changed = time.monotonic()
        return True


def backoff_seconds(failures: int) -> float:
    """Seconds to wait after so many failures in a row, with jitter."""
    return random.uniform(0.5, 1) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 10))  # noqa: S311  (jitter)
