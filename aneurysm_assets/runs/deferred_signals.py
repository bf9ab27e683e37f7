"""Ctrl-C and termination that wait for a moment which must not be cut in two.

What an interrupted run then does belongs to `series_run` and `cli.runner`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let interrupts that come in the block take effect at its end, none of them lost.

    Outside the main thread, which alone receives signals, there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    try:
        with ExitStack() as restored:
            for number in _SIGNALS:
                # None: set by another language than Python, which cannot be put back from here.
                handler = signal.getsignal(number)
                restored.callback(
                    signal.signal, number, signal.SIG_DFL if handler is None else handler
                )
                signal.signal(number, note)
            yield
    finally:
        for interrupt in dict.fromkeys(received):
            signal.raise_signal(interrupt)
