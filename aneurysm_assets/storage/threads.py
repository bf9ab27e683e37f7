"""Threads that wait together for what one would wait for at a time: begun as far as they can be.

What they do belongs to whoever begins them.
"""

import threading
from collections.abc import Callable


def start_threads(work: Callable[[], None], most: int) -> list[threading.Thread]:
    """Start threads that share some work.

    Parameters
    ----------
    work : callable
        What each of them does.
    most : int
        How many of them.

    Returns
    -------
    list of threading.Thread
        Those that run; fewer, or none, where the system gives no more.
    """
    started: list[threading.Thread] = []
    for _ in range(most):
        thread = threading.Thread(target=work, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            break
        started.append(thread)
    return started
