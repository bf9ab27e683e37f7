"""The same work for many series, in worker processes; one series' failure is its own.

The work itself belongs to the folder of each input, the record of its result to `runs`. A worker
writes its own file and sends back counts: sending rows would cost more than reading them.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

import polars as pl

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.messages import printable
from aneurysm_assets.parallel.pool import (
    WORTH_A_POOL,
    dedicated_pool,
    keep_no_more,
    kept_workers,
    shared_pool,
)
from aneurysm_assets.storage.atomic_files import StagedFiles, batch_commit
from aneurysm_assets.storage.table_files import StoredPicture, StoredTable

_AHEAD = 4
"""Tasks handed to each worker ahead of its results: few enough to stop soon, enough to be busy."""

_TASK_SECONDS = 0.1
"""Series that take less go to a worker several at a time: handing one over takes this process up to
some milliseconds while it records others, and their files are made safe together. A task ends after
this time, whatever is left of it: what is done of it is recorded only then."""

_MOST_IN_TASK = 32

_TICK_SECONDS = 0.25

_NO_WORKER = (
    "no worker process could start (out of memory, or an installation that is not whole): run it "
    "again once that is mended, or with fewer workers"
)


@dataclass(frozen=True)
class SeriesResult:
    """One series' table, or its picture, is safe on disk, or once the task that it is part of ends.

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
        Wall time of reading and writing, in a task without that of making files safe together.
    notes : tuple of str
        What a person should know about the series though it is done; each in one printable line.
    fast_files : int or None
        Those of the files whose DICOM header was read by its bytes, without pydicom; None where
        there are no such headers.
    picture : StoredPicture or None
        The picture, where that was made.
    fingerprint : str
        Of the input as it was read.
    csv_sha256 : str
        Of the whole CSV of which the rows are; empty where it is not from a CSV.
    about : mapping of str to str or number
        What the series is, by names for people; they do not depend on where things are.
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
    about: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesFailure:
    """One series could not be taken.

    Attributes
    ----------
    reason : str
        What happened and to which file, in a sentence for the user, in one printable line.
    traceback : str
        Of what nobody expected; empty where the reason says it all.
    """

    reason: str
    traceback: str = ""


Outcome = SeriesResult | SeriesFailure


class Work(Protocol):
    """What is done for each series; what it raises becomes `SeriesFailure`."""

    def __call__(
        self, series_instance_uid: str, /, *, staged: StagedFiles | None = None
    ) -> SeriesResult:
        """Do it; the files that it writes wait in `staged`, where that is given."""


_Task = Future[list[Outcome]]


def map_series(
    work: Work,
    series: Sequence[str],
    workers: int,
    *,
    alone: Callable[[str], Work] | None = None,
    threads: int = 1,
) -> Iterator[tuple[str, Outcome] | None]:
    """Do the work for each series and yield each outcome as soon as it is there.

    Parameters
    ----------
    work : callable
        From a SeriesInstanceUID to `SeriesResult`; must be picklable. What it raises becomes
        `SeriesFailure`.
    series : sequence of str
        SeriesInstanceUIDs.
    workers : int
        Processes. With 0, or for very few series, the work is done in this process, unless worker
        processes are kept: see `workers_kept`.
    alone : callable, optional
        From a SeriesInstanceUID to the same work with what that series needs of it and no more,
        where the whole is much to send to another process.
    threads : int
        Of this process, also where worker processes are kept: for work that waits for a store more
        than it works.

    Yields
    ------
    tuple of str and Outcome, or None
        In the order of completion; each series once. A worker process that dies (out of memory,
        a crash in a library) costs no series but the one that kills it. None, several times a
        second, while workers are busy: the caller may have something to do meanwhile.
    """
    if threads < 2:
        workers = workers or kept_workers()
    if workers == 0 or len(series) < WORTH_A_POOL:
        yield from _map_here(work, series, threads)
        return
    remaining = list(series)
    work_for = alone or (lambda _: work)
    most_in_task = _MOST_IN_TASK
    while remaining:
        suspects: list[str] = []
        for key, outcome in _map_in_pool(work_for, remaining, workers, most_in_task):
            if key is None:
                yield None
            elif outcome is None:
                suspects.append(key)
            else:
                yield key, outcome
        if suspects:
            keep_no_more()
        if len(suspects) == len(remaining) and not _can_live():
            yield from ((uid, SeriesFailure(_NO_WORKER)) for uid in suspects)
            return
        # A dead worker takes the pool with it and does not say over which series it died. Handed
        # out singly it is among the first that were running, of which each is tried alone.
        most_in_task = 1
        for uid in suspects[: workers * _AHEAD]:
            yield from _attempt_alone(work_for(uid), uid)
        remaining = suspects[workers * _AHEAD :]


def attempt(work: Work, series_instance_uid: str, staged: StagedFiles | None = None) -> Outcome:
    """Do the work for one series; whatever it raises becomes the reason of its failure."""
    start = time.perf_counter()
    try:
        result = work(series_instance_uid, staged=staged)
    except SeriesError as error:
        return SeriesFailure(str(error))
    except OSError as error:
        return SeriesFailure(_reason(error))
    except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - the reason is recorded
        place = traceback.extract_tb(error.__traceback__)[-1]
        return SeriesFailure(
            printable(
                f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            ),
            "".join(traceback.format_exception(error)),
        )
    notes = tuple(map(printable, result.notes))
    return replace(result, seconds=time.perf_counter() - start, notes=notes)


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return printable(f"{reason}: {error.filename}" if error.filename else reason)


def _map_here(
    work: Work, series: Sequence[str], threads: int
) -> Iterator[tuple[str, Outcome] | None]:
    if threads < 2:
        yield from ((uid, attempt(work, uid)) for uid in series)
        return
    waiting = iter(series)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="series")
    try:
        running = {pool.submit(attempt, work, uid): uid for uid in islice(waiting, 2 * threads)}
        while running:
            # With a time limit, as below: a Ctrl-C is to be heard.
            done, _ = wait(running, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                yield running.pop(future), future.result()
                for following in islice(waiting, 1):
                    running[pool.submit(attempt, work, following)] = following
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _map_in_pool(
    work_for: Callable[[str], Work], series: Sequence[str], workers: int, most_in_task: int
) -> Iterator[tuple[str | None, Outcome | None]]:
    """Yield outcomes, and (None, None) while there is none to yield.

    Last come, without an outcome, the series that a broken pool did not get to finish, in the order
    in which they were handed out.
    """
    with shared_pool(workers, len(series)) as pool:
        tasks = _Tasks(pool, work_for, series, workers)
        series_per_task = 1
        while tasks.hand_out(series_per_task):
            task = tasks.next_finished()
            if task is None:
                yield None, None
                continue
            done = tasks.collect(task)
            if done:
                series_per_task = _worth_a_task([outcome for _, outcome in done], most_in_task)
                yield from done
    yield from ((uid, None) for uid in tasks.lost(series))


class _Tasks:
    """Some series as tasks of a pool: those that wait, those that run, and those it lost."""

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        work_for: Callable[[str], Work],
        series: Sequence[str],
        workers: int,
    ) -> None:
        self._pool = pool
        self._work_for = work_for
        self._workers = workers
        self._waiting = deque(series)
        self._running: dict[_Task, list[str]] = {}
        self._finished: SimpleQueue[_Task] = SimpleQueue()
        self._lost: set[str] = set()

    def hand_out(self, series_per_task: int) -> bool:
        """Keep the workers busy, unless the pool is broken; return whether any task runs."""
        while self._waiting and not self._lost and len(self._running) < self._workers * _AHEAD:
            # No worker is to have the last series while others have nothing to do.
            share = -(-len(self._waiting) // self._workers)
            uids = [self._waiting.popleft() for _ in range(min(series_per_task, share))]
            try:
                task = self._pool.submit(attempt_some, [(self._work_for(uid), uid) for uid in uids])
            except BrokenProcessPool:
                self._lost.update(uids)
            else:
                self._running[task] = uids
                task.add_done_callback(self._finished.put)
        return bool(self._running)

    def next_finished(self) -> _Task | None:
        """Return the task that is finished next, None if none is for a while."""
        try:
            # With a time limit: polars handles SIGINT such that a wait without one is deaf to it.
            return self._finished.get(timeout=_TICK_SECONDS)
        except Empty:
            return None

    def collect(self, task: _Task) -> list[tuple[str, Outcome]]:
        """Return the outcomes of a finished task; the series it did not reach wait again.

        There are none where the pool broke: then the series of the task are lost.
        """
        uids = self._running.pop(task)
        try:
            outcomes = task.result()
        except BrokenProcessPool:
            self._lost.update(uids)
            return []
        self._waiting.extendleft(reversed(uids[len(outcomes) :]))
        return list(zip(uids, outcomes, strict=False))

    def lost(self, series: Sequence[str]) -> list[str]:
        """Return which of the series have no outcome once no task runs, in their order."""
        without_outcome = self._lost.union(self._waiting)
        return [uid for uid in series if uid in without_outcome]


def attempt_some(pairs: Sequence[tuple[Work, str]]) -> list[Outcome]:
    """Do the work for the first of some series: as many as a task has time for, at least one."""
    until = time.monotonic() + _TASK_SECONDS
    attempted: list[tuple[Outcome, list[Path]]] = []
    with StagedFiles() as staged:
        for work, uid in pairs:
            before = set(staged.paths)
            outcome = attempt(work, uid, staged)
            written = [path for path in staged.paths if path not in before]
            if isinstance(outcome, SeriesFailure):
                staged.discard(written)
                written = []
            attempted.append((outcome, written))
            if time.monotonic() > until:
                break
        errors = batch_commit(staged)
    return [
        _failure_of_files([errors[path] for path in written]) or outcome
        for outcome, written in attempted
    ]


def _failure_of_files(errors: Sequence[OSError | None]) -> SeriesFailure | None:
    reasons = [_reason(error) for error in errors if error is not None]
    return SeriesFailure(reasons[0]) if reasons else None


def _worth_a_task(outcomes: Sequence[Outcome], most: int) -> int:
    """Return how many series are to be one task, given how long some have taken."""
    seconds = max(
        each.seconds if isinstance(each, SeriesResult) else _TASK_SECONDS for each in outcomes
    )
    return max(1, min(most, int(_TASK_SECONDS / max(seconds, 1e-6))))


def _can_live() -> bool:
    """Tell whether a worker process starts at all, by one that has nothing to do."""
    with dedicated_pool(1) as pool:
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
    with dedicated_pool(1) as pool:
        try:
            future = pool.submit(attempt, work, series_instance_uid)
            # With a time limit, as above.
            while not wait([future], timeout=_TICK_SECONDS).done:
                yield None
            yield series_instance_uid, future.result()
        except BrokenProcessPool:
            yield (
                series_instance_uid,
                SeriesFailure(
                    "the worker process died while it read this series (out of memory, or a file "
                    "that crashes a library)"
                ),
            )
