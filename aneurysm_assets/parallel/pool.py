"""Pools of worker processes: begun, kept for the work that follows, and ended with us.

What is done in them belongs to `series_map`, how one of them begins to `worker_process`.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from aneurysm_assets.parallel.worker_process import start_worker

P = ParamSpec("P")
T = TypeVar("T")

WORTH_A_POOL = 4
"""Fewer series than this are read before a second process has started."""


@dataclass
class _Kept:
    """A pool that outlives the work for which it was begun, and how many work in it."""

    pool: ProcessPoolExecutor | None = None
    workers: int = 0


_kept: list[_Kept] = []
"""Of this process; empty where nobody keeps workers."""

_begun: list[_Kept] = []
"""Pools that were begun early, until somebody keeps their workers."""


@contextmanager
def workers_begun(workers: int, modules: Sequence[str]) -> Iterator[None]:
    """Begin worker processes for the first block of `workers_kept` in this one.

    They import while this process does, which takes it as long.

    Parameters
    ----------
    workers : int
        Processes; with 0 nothing is begun.
    modules : sequence of str
        What they import meanwhile.
    """
    if workers == 0:
        yield
        return
    pool = _pool(workers, modules)
    _begun.append(_Kept(pool, workers))
    try:
        with _terminated_when_left(pool):
            for _ in range(workers):
                pool.submit(int)  # a process is begun as work waits for one
            yield
    finally:
        _begun.clear()
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def workers_kept() -> Iterator[None]:
    """Keep worker processes that work in the block begins for the work that follows in it.

    They take about a second to start, more than the small tables of a run. They end with the
    block, and before where work is left early or one of them dies.
    """
    kept = _begun.pop() if _begun else _Kept()
    _kept.append(kept)
    try:
        yield
    finally:
        keep_no_more()
        _kept.remove(kept)


def kept_workers() -> int:
    """Return how many workers are kept, begun already."""
    return sum(kept.workers for kept in _kept)


@contextmanager
def shared_pool(workers: int, series: int) -> Iterator[ProcessPoolExecutor]:
    """Give the pool that is kept, or one for this work alone, which has no more than its series.

    Its workers are ended at once where the work is left early (Ctrl-C, an error): a slow disk must
    not hold up the end. What they were writing is beside its place, and the next run removes it.
    """
    if not _kept:
        with dedicated_pool(min(workers, series)) as pool:
            yield pool
        return
    kept = _kept[-1]
    if kept.pool is None:
        kept.pool, kept.workers = _pool(workers), workers
    try:
        with _terminated_when_left(kept.pool):
            yield kept.pool
    except BaseException:
        keep_no_more()
        raise


@contextmanager
def dedicated_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool that ends with the block, as that of `shared_pool` where it is left early."""
    pool = _pool(workers)
    try:
        with _terminated_when_left(pool):
            yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def keep_no_more() -> None:
    """Let go of a pool that is broken or was ended; the next work begins another."""
    for kept in _kept:
        if kept.pool is not None:
            kept.pool.shutdown(wait=False, cancel_futures=True)
        kept.pool, kept.workers = None, 0


@contextmanager
def _terminated_when_left(pool: ProcessPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise


class _Pool(ProcessPoolExecutor):
    """Begins its processes, as work is submitted, deaf to the Ctrl-C that is for us alone.

    A worker ignores it (`start_worker`), but a second passes until it is so far.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # children inherit it
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _pool(workers: int, modules: Sequence[str] = ()) -> ProcessPoolExecutor:
    # Not fork: Dagster and polars run threads, and a forked child inherits their locks held.
    return _Pool(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(modules,),
    )
