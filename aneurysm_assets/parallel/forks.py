"""Whether this process is a fork of one in which polars had threads: here it would wait for ever.

Only the thread that calls `fork` lives on in the new process, and polars does not notice.
"""

import os
from pathlib import Path

_TASKS = Path("/proc/self/task")


class _PolarsThreads:
    """What is seen before a fork, and what a new process has to know of it."""

    were_there = False
    are_lost = False

    @classmethod
    def before(cls) -> None:
        try:
            cls.were_there = any(
                name.read_text().startswith("polars-") for name in _TASKS.glob("*/comm")
            )
        except OSError:  # of a thread that has ended meanwhile
            cls.were_there = True

    @classmethod
    def in_child(cls) -> None:
        cls.are_lost = cls.are_lost or cls.were_there


os.register_at_fork(before=_PolarsThreads.before, after_in_child=_PolarsThreads.in_child)


def require_usable_polars() -> None:
    """Refuse where polars would wait for threads that are not there.

    Raises
    ------
    RuntimeError
        This process was forked after polars was used; the text says what to do.
    """
    if _PolarsThreads.are_lost:
        raise RuntimeError(
            "this process was forked after polars was used, so polars, which reads tables and "
            "headers here, would wait for ever: start processes by forkserver or spawn, as in "
            "torch.utils.data.DataLoader(..., multiprocessing_context='forkserver')"
        )
