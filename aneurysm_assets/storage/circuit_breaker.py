"""How long a store that does not answer is waited for, and when it no longer is.

A store that is down for a moment is worth waiting for, once. If each series of a run waited as
long, a store that stays away would hold up the run for days. How a bucket is asked belongs to
`object_store`.
"""

import threading
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import RetryConfig  # a type only, not there at run time

TIMEOUT = timedelta(seconds=120)
"""For a request to a store that answered before."""

TIMEOUT_WHILE_OPEN = timedelta(seconds=1)
"""For one to a store that was waited for in vain."""

ASK_EACH_TIME_FOR = timedelta(seconds=120)
"""In which such a store is still asked by every request, for it may be about to come back."""

ASK_AGAIN_AFTER = timedelta(seconds=5)
"""After which a store is asked again that was away for longer; until then, requests fail unmade."""


_MAX_RETRIES = 1_000  # the time is the limit

MAX_BACKOFF = timedelta(seconds=5)
"""Between two tries of one request."""


class CircuitBreaker:
    """Of one store, in this process and all its threads; any answer closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._asked = 0.0
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the store was waited for in vain."""
        return self._failing_since is not None

    def refusal(self) -> str | None:
        """Return why a request is not to be made; None where it is, which then counts as made."""
        now = time.monotonic()
        with self._lock:
            if (
                self._failing_since is None
                or now - self._failing_since < ASK_EACH_TIME_FOR.total_seconds()
            ):
                return None
            if now - self._asked >= ASK_AGAIN_AFTER.total_seconds():
                self._asked = now
                return None
            return f"{self._reason}; asked {now - self._asked:.0f} s ago, and not again yet"

    def record_answer(self) -> None:
        """Record that the store has answered, whatever it said."""
        if self._failing_since is not None:
            with self._lock:
                self._failing_since = None

    def record_failure(self, reason: str, seconds: float) -> None:
        """Record that it has not answered, and how long it was waited for.

        What fails at once was not waited for: it says nothing of the next request.
        """
        now = time.monotonic()
        with self._lock:
            if self._failing_since is not None:
                self._reason, self._asked = reason, now
            elif seconds >= TIMEOUT.total_seconds() / 2:
                self._failing_since, self._reason, self._asked = now, reason, now

    def retries(self) -> "RetryConfig":
        """Return how often, and for how long, a request is made again."""
        return {
            "max_retries": _MAX_RETRIES,
            "retry_timeout": TIMEOUT_WHILE_OPEN if self.is_open else TIMEOUT,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": MAX_BACKOFF,
                "base": 2,
            },
        }


@cache
def circuit_breaker_of(bucket: str) -> CircuitBreaker:
    """Return the circuit breaker of a bucket, always the same one."""
    return CircuitBreaker()
