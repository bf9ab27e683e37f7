"""Ctrl-C and termination that wait for a moment which must not be cut in two.

What an interrupted run then does belongs to `recording` and `runner`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Let interrupts that come in the block take effect at its end, none of them lost.

    Outside the main thread, which alone receives signals, there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    handlers = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # None: set by another language than Python, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for interrupt in dict.fromkeys(received):
            signal.raise_signal(interrupt)
