"""The same work for many series, in worker processes; one series' failure is its own.

What the work is belongs to `extraction`, where its result is recorded to `recording`. A worker
writes its own file and sends back counts: sending rows would cost more than reading them.
"""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import polars as pl

from aneurysm_assets.extraction.errors import SeriesError
from aneurysm_assets.store import StoredPicture, StoredTable
from aneurysm_assets.worker_process import start_worker

_AHEAD = 4
"""Series handed to each worker ahead of its results: few enough to stop soon, enough to be busy."""

_TICK_SECONDS = 0.25

_NO_WORKER = (
    "no worker process could start (out of memory, or an installation that is not whole): run it "
    "again once that is mended, or with fewer workers"
)

_WORTH_A_POOL = 4
"""Fewer series than this are read before a second process has started."""


@dataclass(frozen=True)
class Written:
    """One series' table, or its picture, is safe on disk.

    Attributes
    ----------
    table : StoredTable or None
        Where and how it is stored; None where a picture was made.
    files : int
        Input files read.
    unreadable_files : int
        Those of them that could not be read and have a `read_error`.
    bytes : int
        Size of the input files together.
    seconds : float
        Wall time of reading and writing.
    notes : tuple of str
        What a person should know about the series though it is done.
    fast_files : int or None
        Those of the files whose DICOM header was read by its bytes, without pydicom; None where
        there are no such headers.
    picture : StoredPicture or None
        The picture, where that was made.
    fingerprint : str
        Of the input, taken before it was read.
    csv_sha256 : str
        Of the whole CSV of which the rows are; empty where it is not from a CSV.
    """

    table: StoredTable | None
    files: int
    unreadable_files: int
    bytes: int
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    fast_files: int | None = None
    picture: StoredPicture | None = None
    fingerprint: str = ""
    csv_sha256: str = ""


@dataclass(frozen=True)
class Failed:
    """One series could not be taken.

    Attributes
    ----------
    reason : str
        What happened and to which file, in a sentence for the user.
    traceback : str
        Of what nobody expected; empty where the reason says it all.
    """

    reason: str
    traceback: str = ""


Outcome = Written | Failed
Work = Callable[[str], Written]


@dataclass
class _Kept:
    """A pool that outlives the work for which it was begun, and how many work in it."""

    pool: ProcessPoolExecutor | None = None
    workers: int = 0


_kept: list[_Kept] = []
"""Of this process; empty where nobody keeps workers."""


@contextmanager
def workers_kept() -> Iterator[None]:
    """Keep worker processes that work in the block begins for the work that follows in it.

    They take about a second to start, more than the small tables of a run. They end with the
    block, and before where work is left early or one of them dies.
    """
    kept = _Kept()
    _kept.append(kept)
    try:
        yield
    finally:
        _keep_no_more()
        _kept.remove(kept)


def map_series(
    work: Work,
    series: Sequence[str],
    workers: int,
    *,
    alone: Callable[[str], Work] | None = None,
) -> Iterator[tuple[str, Outcome] | None]:
    """Do the work for each series and yield each outcome as soon as it is there.

    Parameters
    ----------
    work : callable
        From a SeriesInstanceUID to `Written`; must be picklable. What it raises becomes `Failed`.
    series : sequence of str
        SeriesInstanceUIDs.
    workers : int
        Processes. With 0, or for very few series, the work is done in this process, unless worker
        processes are kept: see `workers_kept`.
    alone : callable, optional
        From a SeriesInstanceUID to the same work with what that series needs of it and no more,
        where the whole is much to send to another process.

    Yields
    ------
    tuple of str and Outcome, or None
        In the order of completion; each series once. A worker process that dies (out of memory,
        a crash in a library) costs no series but the one that kills it. None, several times a
        second, while workers are busy: the caller may have something to do meanwhile.
    """
    workers = workers or sum(kept.workers for kept in _kept)
    if workers == 0 or len(series) < _WORTH_A_POOL:
        for uid in series:
            yield uid, attempt(work, uid)
        return
    left = list(series)
    work_for = alone or (lambda _: work)
    while left:
        suspects: list[str] = []
        for key, outcome in _map_in_pool(work_for, left, workers):
            if key is None:
                yield None
            elif outcome is None:
                suspects.append(key)
            else:
                yield key, outcome
        if suspects:
            _keep_no_more()
        if len(suspects) == len(left) and not _can_live():
            yield from ((uid, Failed(_NO_WORKER)) for uid in suspects)
            return
        # A dead worker takes the pool with it and does not say over which series it died: each
        # that was under way is tried alone. The rest goes on in a new pool.
        for uid in suspects[: workers * _AHEAD]:
            yield from _attempt_alone(work_for(uid), uid)
        left = suspects[workers * _AHEAD :]


def attempt(work: Work, series_instance_uid: str) -> Outcome:
    """Do the work for one series; whatever it raises becomes the reason of its failure."""
    start = time.perf_counter()
    try:
        written = work(series_instance_uid)
    except SeriesError as error:
        return Failed(str(error))
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        return Failed(f"{reason}: {error.filename}" if error.filename else reason)
    except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - the reason is recorded
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Failed(
            f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})",
            "".join(traceback.format_exception(error)),
        )
    return replace(written, seconds=time.perf_counter() - start)


def _map_in_pool(
    work_for: Callable[[str], Work], series: Sequence[str], workers: int
) -> Iterator[tuple[str | None, Outcome | None]]:
    """Yield outcomes, and (None, None) while there is none to yield.

    Last come, without an outcome, the series that a broken pool did not get to finish.
    """
    waiting = iter(series)
    lost: list[str] = []
    under_way: dict[Future[Outcome], str] = {}
    with _pool_at_hand(workers, len(series)) as pool:

        def submit(uid: str) -> None:
            try:
                under_way[pool.submit(attempt, work_for(uid), uid)] = uid
            except BrokenProcessPool:
                lost.append(uid)

        for uid in islice(waiting, workers * _AHEAD):
            submit(uid)
        while under_way:
            done, _ = wait(under_way, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
            if not done:
                yield None, None
            for future in done:
                uid = under_way.pop(future)
                try:
                    yield uid, future.result()
                except BrokenProcessPool:
                    lost.append(uid)
                for following in () if lost else islice(waiting, 1):
                    submit(following)
    for uid in (*lost, *waiting):
        yield uid, None


@contextmanager
def _pool_at_hand(workers: int, series: int) -> Iterator[ProcessPoolExecutor]:
    """Give the pool that is kept, or one for this work alone."""
    if not _kept:
        with _ended_with_us(_pool(min(workers, series))) as pool:
            yield pool
        return
    kept = _kept[-1]
    if kept.pool is None:
        kept.pool, kept.workers = _pool(workers), workers
    try:
        with _terminated_when_left(kept.pool):
            yield kept.pool
    except BaseException:
        _keep_no_more()
        raise


def _keep_no_more() -> None:
    """Let go of a pool that is broken or was ended; the next work begins another."""
    for kept in _kept:
        if kept.pool is not None:
            kept.pool.shutdown(wait=False, cancel_futures=True)
        kept.pool, kept.workers = None, 0


@contextmanager
def _ended_with_us(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """End the workers when we are done; at once when we are left early."""
    try:
        with _terminated_when_left(pool):
            yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _terminated_when_left(pool: ProcessPoolExecutor) -> Iterator[None]:
    """End the workers at once when we are left early (Ctrl-C, an error).

    A slow disk must not hold up the end. What the workers were writing is beside its place, and
    the next run removes it.
    """
    try:
        yield
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise


def _can_live() -> bool:
    """Tell whether a worker process starts at all, by one that has nothing to do."""
    with _ended_with_us(_pool(1)) as pool:
        try:
            future = pool.submit(int)
            while not wait([future], timeout=_TICK_SECONDS).done:
                pass
            future.result()
        except BrokenProcessPool:
            return False
    return True


def _attempt_alone(work: Work, series_instance_uid: str) -> Iterator[tuple[str, Outcome] | None]:
    """Do the work in a process of its own; yield None while it lasts, and then the outcome."""
    with _ended_with_us(_pool(1)) as pool:
        try:
            future = pool.submit(attempt, work, series_instance_uid)
            # With a time limit: polars handles SIGINT such that a wait without one is deaf to it.
            while not wait([future], timeout=_TICK_SECONDS).done:
                yield None
            yield series_instance_uid, future.result()
        except BrokenProcessPool:
            yield (
                series_instance_uid,
                Failed(
                    "the worker process died while it read this series (out of memory, or a file "
                    "that crashes a library)"
                ),
            )


def _pool(workers: int) -> ProcessPoolExecutor:
    # Not fork: Dagster and polars run threads, and a forked child inherits their locks held.
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    )
