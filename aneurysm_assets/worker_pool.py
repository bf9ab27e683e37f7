"""Pools of worker processes: begun, kept for the work that follows, and ended with us.

Imports next to nothing, so that workers can be begun before what is slow to import. What is done in
them belongs to `workers`, how one of them begins to `worker_process`.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from aneurysm_assets.worker_process import start_worker


@dataclass
class _Kept:
    """A pool that outlives the work for which it was begun, and how many work in it."""

    pool: ProcessPoolExecutor | None = None
    workers: int = 0


_kept: list[_Kept] = []
"""Of this process, at most one; empty where nobody keeps workers."""


@contextmanager
def workers_kept(begin: int = 0, module: str = "") -> Iterator[None]:
    """Keep worker processes that work in the block begins for the work that follows in it.

    They take about a second to start, more than the small tables of a run. They end with the
    block, and before where work is left early or one of them dies. Within such a block another
    changes nothing.

    Parameters
    ----------
    begin : int
        Workers to begin at once, while this process does something else.
    module : str
        What these import meanwhile.
    """
    if _kept:
        yield
        return
    kept = _Kept()
    _kept.append(kept)
    try:
        if begin:
            _begin(kept, begin, module)
        yield
    except BaseException:
        if kept.pool is not None:
            _terminate(kept.pool)
        raise
    finally:
        keep_no_more()
        _kept.remove(kept)


def kept_workers() -> int:
    """Return how many workers are kept, begun already."""
    return sum(kept.workers for kept in _kept)


@contextmanager
def pool_at_hand(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give the pool that is kept, or one for this work alone.

    Its workers are ended at once where the work is left early (Ctrl-C, an error): a slow disk must
    not hold up the end. What they were writing is beside its place, and the next run removes it.
    """
    if not _kept:
        with pool_alone(workers) as pool:
            yield pool
        return
    kept = _kept[-1]
    if kept.pool is None:
        kept.pool, kept.workers = _pool(workers), workers
    try:
        yield kept.pool
    except BaseException:
        if kept.pool is not None:
            _terminate(kept.pool)
        keep_no_more()
        raise


@contextmanager
def pool_alone(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool that ends with the block, as that of `pool_at_hand` where it is left early."""
    pool = _pool(workers)
    try:
        yield pool
    except BaseException:
        _terminate(pool)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def keep_no_more() -> None:
    """Let go of a pool that is broken or was ended; the next work begins another."""
    for kept in _kept:
        if kept.pool is not None:
            kept.pool.shutdown(wait=False, cancel_futures=True)
        kept.pool, kept.workers = None, 0


def _begin(kept: _Kept, workers: int, module: str) -> None:
    pool = _pool(workers, module)
    try:
        for _ in range(workers):
            pool.submit(int)  # a process is started for what is handed in
    except OSError:
        # Too little memory, too many processes: the work itself will meet the same, and say it.
        pool.shutdown(wait=False, cancel_futures=True)
        return
    kept.pool, kept.workers = pool, workers


def _terminate(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.terminate()


def _pool(workers: int, module: str = "") -> ProcessPoolExecutor:
    # Not fork: Dagster and polars run threads, and a forked child inherits their locks held.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(module,),
    )
