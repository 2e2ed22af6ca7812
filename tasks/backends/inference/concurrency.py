"""Adapt the number of concurrent requests to one server to its responses, as in TCP congestion control.

Additive increase, multiplicative decrease (Chiu & Jain 1989), with slow start below the last known threshold.
"""

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tasks.backends.inference.http_protocol import TransientServerError

_MAX_BACKOFF_S = 30.0
_BASE_BACKOFF_S = 0.25


@dataclass
class ConcurrencyLimit:
    """Limit of concurrent requests to one server. All times are those of `time.monotonic`."""

    address: str
    limit: float
    """Its integer part is the number of requests that may be in flight."""
    threshold: float = float("inf")
    """Limit at which slow start ends: below, each success adds 1; above, 1 / limit."""
    in_flight: int = 0
    backoff_until: float = 0.0
    failures: int = 0
    """Failures in a row, counting requests that were in flight together once."""
    halved_at: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    def succeeded(self, slow: bool, started: float, max_limit: int) -> None:
        """Raise the limit after a response; halve it if the response was slow, since the server may be overloaded.

        Args:
            slow: Whether the response took long.
            started: Time at which the request was sent.
            max_limit: Upper bound of the limit.
        """
        if slow:
            self._halve(started)
            return
        self.failures = 0
        self.limit = min(max_limit, self.limit + (1 if self.limit < self.threshold else 1 / self.limit))

    def failed(self, error: TransientServerError, started: float) -> None:
        """Lower the limit after a request without a usable response, and set the time of the next request.

        Args:
            error: The failure.
            started: Time at which the request was sent.
        """
        self.errors[str(error)] += 1
        now = time.monotonic()
        if self._halve(started):
            self.failures += 1
            if error.unreachable:
                self.limit = 1.0
            if error.unreachable or error.busy:
                self.backoff_until = max(self.backoff_until, now + backoff_seconds(self.failures))
        self.backoff_until = max(self.backoff_until, now + error.retry_after)

    def _halve(self, started: float) -> bool:
        """Halve the limit, once for all requests that were in flight together. Return whether it was halved."""
        if started < self.halved_at:
            return False
        self.threshold = self.limit = max(1.0, self.limit / 2)
        self.halved_at = time.monotonic()
        return True


def backoff_seconds(failures: int) -> float:
    """Return the seconds to wait after a number of failures in a row: exponential backoff with jitter."""
    seconds = min(_MAX_BACKOFF_S, _BASE_BACKOFF_S * 2 ** min(failures, 10))
    return random.uniform(0.5, 1) * seconds  # noqa: S311  (jitter)
