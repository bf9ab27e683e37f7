"""The same work for many series: each fails alone, and no process is left when it ends."""

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from aneurysm_assets.parallel import pool
from aneurysm_assets.parallel.pool import kept_workers, workers_begun, workers_kept
from aneurysm_assets.parallel.series_map import (
    Outcome,
    SeriesFailure,
    SeriesResult,
    Work,
    attempt,
    attempt_some,
    map_series,
)
from aneurysm_assets.storage.table_files import StoredTable
from tests import work
from tests.work import DEADLINE

ROOT = Path(__file__).parents[2]

DIED = (
    "the worker process died while it read this series (out of memory, or a file that crashes a "
    "library)"
)


class Announcements:
    """The lines that worker processes write to a FIFO which they keep open until they end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._rest = b""

    def close(self) -> None:
        os.close(self._descriptor)

    def line(self) -> str:
        """Return the next line, as soon as a process has written one."""
        while b"\n" not in self._rest:
            received = self._receive()
            assert received, "the processes ended"
            self._rest += received
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def processes(self, number: int) -> set[int]:
        """Return the first so many processes that announced themselves."""
        found: set[int] = set()
        while len(found) < number:
            found.add(int(self.line().split()[0]))
        return found

    def wait_until_all_ended(self) -> None:
        """Return once no process has the FIFO open any more."""
        while self._receive():
            pass

    def _receive(self) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], DEADLINE)
        assert ready, f"nothing was heard of the processes for {DEADLINE} seconds"
        return os.read(self._descriptor, 65536)


@pytest.fixture
def announcements(tmp_path: Path) -> Iterator[Announcements]:
    with closing(Announcements(tmp_path / "announcements")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    # Not child.join: the pool's own thread joins it too, and only one of the two is told.
    children = multiprocessing.active_children()
    left = [child for child in children if not wait([child.sentinel], DEADLINE)]
    for child in left:
        child.kill()  # else the interpreter would wait for it at its end
    assert not left


def finished(do: Work, series: Sequence[str], workers: int) -> Iterator[tuple[str, Outcome]]:
    """Yield what is done, without the moments in which there is nothing."""
    with closing(map_series(do, series, workers)) as results:  # type: ignore[type-var]
        yield from (result for result in results if result is not None)


def outcomes(do: Work, series: Sequence[str], workers: int) -> dict[str, Outcome]:
    """Return the outcome of each series, having seen that each came exactly once."""
    pairs = list(finished(do, series, workers))
    assert Counter(uid for uid, _ in pairs) == Counter(series)
    return dict(pairs)


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Let through whoever waits at a FIFO; who is not there yet need not wait."""
    descriptor = os.open(gate, os.O_RDWR)  # without a reader, O_WRONLY would block
    try:
        os.write(descriptor, b"go")
        yield
    finally:
        os.close(descriptor)


def is_written(series: str, outcome: Outcome) -> bool:
    """Tell whether the outcome is just what the work returned, but for the time it took."""
    assert isinstance(outcome, SeriesResult), outcome
    table = StoredTable(Path(f"/interim/{series}.parquet"), "parquet", rows=len(series))
    process = outcome.notes[1]
    return outcome == SeriesResult(table, 1, 0, 10, outcome.seconds, (series, process))


# -- one series ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        ("series 1", "series 1 has no files"),
        ("full 1", "No space left on device: /interim/full 1"),
        ("unnamed", "Input/output error"),
        ("polars", "No space left on device (os error 28)"),
        ("bare", "OSError"),
        ("panic", "PanicException: index out of bounds (work.py:"),
        ("value 1", "ValueError: what value 1 is (work.py:"),
        ("unpicklable", "Unpicklable: unpicklable (work.py:"),
    ],
)
def test_a_failure_says_what_happened_and_to_which_file(series: str, reason: str) -> None:
    outcome = attempt(work.fail, series)
    assert isinstance(outcome, SeriesFailure)
    if reason.endswith("(work.py:"):
        head, _, place = outcome.reason.rpartition(":")
        assert f"{head}:" == reason
        line = int(place.removesuffix(")"))
        assert "raise " in Path(work.__file__).read_text().splitlines()[line - 1]
        assert "\n    raise error\n" in outcome.traceback
    else:
        assert outcome.reason == reason
        assert outcome.traceback == ""


def test_what_the_work_returns_is_passed_on_with_the_time_it_took() -> None:
    outcome = attempt(work.fail, "good")
    assert is_written("good", outcome)
    assert isinstance(outcome, SeriesResult)
    assert outcome.seconds > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failure_of_a_series(error: type[BaseException]) -> None:
    def interrupted(_: str, **__: object) -> SeriesResult:
        raise error

    with pytest.raises(error):
        attempt(interrupted, "1.2")


# -- many series ---------------------------------------------------------------------------------

FAILING = {
    "series 1": "series 1 has no files",
    "full 1": "No space left on device: /interim/full 1",
    "polars": "No space left on device (os error 28)",
    "value 1": "ValueError: what value 1 is",
    "panic": "PanicException: index out of bounds",
    "unpicklable": "Unpicklable: unpicklable",
}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_series_that_fails_touches_no_other(workers: int) -> None:
    good = [f"good {i}" for i in range(12)]
    results = outcomes(work.fail, [*good[:6], *FAILING, *good[6:]], workers)
    assert all(is_written(uid, results[uid]) for uid in good)
    for uid, reason in FAILING.items():
        outcome = results[uid]
        assert isinstance(outcome, SeriesFailure)
        assert outcome.reason.partition(" (work.py")[0] == reason


@pytest.mark.parametrize(("number", "workers"), [(20, 0), (3, 8), (1, 8)])
def test_without_workers_or_with_few_series_the_work_is_done_in_this_process(
    number: int, workers: int
) -> None:
    for outcome in outcomes(work.written, [str(i) for i in range(number)], workers).values():
        assert isinstance(outcome, SeriesResult)
        assert outcome.notes[1] == str(os.getpid())


def test_no_series_is_nothing_to_do() -> None:
    assert list(finished(work.fail, [], 4)) == []


def test_series_are_read_in_as_many_processes_as_asked_for_and_not_in_this_one(
    announcements: Announcements,
) -> None:
    series = ["first", *map(str, range(10))]
    with closing(finished(partial(work.block_but, "first", announcements.path), series, 2)) as it:
        assert next(it)[0] == "first"
        assert os.getpid() not in announcements.processes(2)


def test_while_workers_are_busy_the_caller_gets_to_do_something(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with closing(map_series(partial(work.wait_for_release, gate), ["slow"] * 4, 2)) as results:
        assert next(results) is None


def test_an_outcome_is_there_as_soon_as_its_series_is_done(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    results = finished(partial(work.wait_for_release, gate), ["slow", *"123456"], 2)
    quick = dict(next(results) for _ in range(6))
    assert all(is_written(uid, quick[uid]) for uid in "123456")
    with opened(gate):
        ((uid, outcome),) = results
    assert is_written(uid, outcome)


def test_a_worker_loads_neither_pandas_though_pyarrow_would_nor_pydicom_though_nibabel_would() -> (
    None
):
    assert find_spec("pandas") is not None
    done = outcomes(work.load_arrow_and_nibabel, list("1234"), 1)
    assert {outcome.notes for outcome in done.values() if isinstance(outcome, SeriesResult)} == {
        ("loaded: []", "pydicom is there: True")
    }
    here = work.load_arrow_and_nibabel("here")
    assert here.notes == ("loaded: ['pandas', 'pydicom']", "pydicom is there: True")


def test_workers_that_were_begun_early_do_the_work_and_have_imported_what_it_needs() -> None:
    with workers_begun(1, ["colorsys"]), workers_kept():
        begun = {str(child.pid) for child in multiprocessing.active_children()}
        done = outcomes(work.note_process, list("12345678"), 1)
    assert {outcome.notes for outcome in done.values()} == {(pid, "True") for pid in begun}


def test_workers_that_were_begun_early_in_vain_end_with_the_block() -> None:
    with workers_begun(2, []):
        begun = multiprocessing.active_children()
        assert len(begun) == 2
    for process in begun:
        process.join()
    with suppress(KeyboardInterrupt), workers_begun(1, []):
        begun = multiprocessing.active_children()
        raise KeyboardInterrupt
    for process in begun:
        process.join()


STARTING = """
import multiprocessing, os, signal, sys
from pathlib import Path
from aneurysm_assets.parallel.pool import workers_begun
from tests.processes import wait_until

here = Path(sys.argv[1])
if __name__ == "__main__":
    with workers_begun(1, []):
        wait_until((here / "starting").exists, "the worker began to import")
        (child,) = multiprocessing.active_children()
        os.kill(child.pid, signal.SIGINT)
        (here / "go on").touch()
        wait_until((here / "started").exists, "the worker went on")
else:
    (here / "starting").touch()
    wait_until((here / "go on").exists, "the signal was sent")
    (here / "started").touch()
"""


def test_a_ctrl_c_while_a_worker_is_starting_is_not_for_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STARTING)
    ended = subprocess.run(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_where_workers_begun_early_cannot_import_the_work_is_done_by_others() -> None:
    with workers_begun(2, ["no.such.module"]), workers_kept():
        done = outcomes(work.written, list("12345678"), 2)
    assert all(is_written(uid, outcome) for uid, outcome in done.items())
    assert len(done) == 8


def test_ctrl_c_is_not_for_the_workers_to_heed(
    tmp_path: Path, announcements: Announcements
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    series = ["slow", *"123456"]
    results = finished(partial(work.announce_and_wait, announcements.path, gate), series, 2)
    quick = [next(results)[0] for _ in range(6)]
    os.kill(int(announcements.line()), signal.SIGINT)
    try:
        with opened(gate):
            ((uid, outcome),) = results
    except KeyboardInterrupt:
        pytest.fail("the worker took it for its own, and passed it on")
    assert is_written(uid, outcome)
    assert sorted([uid, *quick]) == sorted(series)


# -- workers that are kept -----------------------------------------------------------------------


def processes(done: dict[str, Outcome]) -> set[str]:
    return {outcome.notes[1] for outcome in done.values() if isinstance(outcome, SeriesResult)}


def test_kept_workers_do_the_work_that_follows_also_what_needs_none() -> None:
    series = list("123456")
    with workers_kept():
        assert processes(outcomes(work.written, series, 0)) == {str(os.getpid())}
        first = processes(outcomes(work.written, series, 1))
        assert processes(outcomes(work.written, series, 0)) == first
    assert processes(outcomes(work.written, series, 0)) == {str(os.getpid())}


def test_kept_workers_are_as_many_as_the_run_has_however_few_series_are_first() -> None:
    with workers_kept():
        outcomes(work.written, list("12345"), 7)
        assert kept_workers() == 7


def test_kept_workers_are_replaced_where_one_of_them_died() -> None:
    with workers_kept():
        series = ["good 1", "dies", *(f"good {i}" for i in range(2, 20))]
        results = outcomes(work.fail, series, 2)
        assert results.pop("dies") == SeriesFailure(DIED)
        again = outcomes(work.fail, list(results), 0)
        assert not any(isinstance(outcome, SeriesFailure) for outcome in (results | again).values())


def test_kept_workers_end_where_work_is_left_early_and_others_do_what_follows(
    announcements: Announcements,
) -> None:
    series = ["first", *map(str, range(10))]
    with workers_kept():
        blocks = partial(work.block_but, "first", announcements.path)
        with closing(finished(blocks, series, 2)) as results:
            next(results)
            blocked = announcements.processes(2)
        announcements.wait_until_all_ended()
        assert not processes(outcomes(work.written, series, 2)) & set(map(str, blocked))


def test_a_task_ends_after_its_time_and_what_is_left_of_it_is_handed_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = [(work.written, uid) for uid in "123"]
    monkeypatch.setattr("aneurysm_assets.parallel.series_map._TASK_SECONDS", DEADLINE)
    assert all(is_written(*each) for each in zip("123", attempt_some(pairs), strict=True))
    monkeypatch.setattr("aneurysm_assets.parallel.series_map._TASK_SECONDS", -1)
    (outcome,) = attempt_some(pairs)
    assert is_written("1", outcome)

    # In workers the time is what it is: some of these take all of it, most next to nothing.
    series = [f"good {i}" if i % 7 else f"long {i}" for i in range(300)]
    assert all(is_written(*each) for each in outcomes(work.take_long, series, 2).items())


def test_a_worker_is_sent_no_more_than_its_series_needs() -> None:
    unpicklable = {uid: uid for uid in "123456"}.__getitem__

    def whole(uid: str, **_: object) -> SeriesResult:
        return work.written(unpicklable(uid))

    results = map_series(whole, list("123456"), 2, alone=lambda _: work.written)
    assert all(is_written(*result) for result in results if result is not None)


# -- processes that die --------------------------------------------------------------------------


def test_where_no_worker_can_start_every_series_says_so_and_none_is_tried_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []

    def begin_pool(size: int) -> ProcessPoolExecutor:
        started.append(size)
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(size, context, initializer=work.die_at_the_start)

    monkeypatch.setattr("aneurysm_assets.parallel.pool._pool", begin_pool)
    results = outcomes(work.written, [f"good {i}" for i in range(1_000)], 2)
    assert {
        outcome.reason[:31] for outcome in results.values() if isinstance(outcome, SeriesFailure)
    } == {"no worker process could start ("}
    assert started == [2, 1]


@pytest.mark.parametrize(("killer", "place"), [("dies", 0), ("exits", 15), ("dies", 29)])
def test_a_series_that_kills_its_worker_fails_and_every_other_is_done(
    killer: str, place: int
) -> None:
    series = [f"good {i}" for i in range(30)]
    series[place] = killer
    results = outcomes(work.fail, series, 2)
    assert results.pop(killer) == SeriesFailure(DIED)
    assert all(is_written(uid, outcome) for uid, outcome in results.items())


def test_among_many_small_series_one_that_kills_its_worker_takes_few_others_to_be_tried_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    begin = pool._pool

    def begin_pool(size: int) -> ProcessPoolExecutor:
        begun.append(size)
        return begin(size)

    monkeypatch.setattr(pool, "_pool", begin_pool)
    series = [f"good {i}" for i in range(400)]
    series[300] = "dies"
    results = outcomes(work.fail, series, 2)
    assert results.pop("dies") == SeriesFailure(DIED)
    assert all(is_written(uid, outcome) for uid, outcome in results.items())
    # Two that died, at most one in which it was handed out again, and each tried alone.
    assert begun.count(1) <= 16
    assert begun.count(2) <= 4


def test_of_several_series_that_kill_their_worker_each_fails_and_every_other_is_done() -> None:
    killers = {"dies 1", "dies 2", "exits 3"}
    series = ["good 1", "dies 1", "dies 2", *(f"good {i}" for i in range(2, 20)), "exits 3"]
    results = outcomes(work.fail, series, 2)
    assert {uid for uid, outcome in results.items() if outcome == SeriesFailure(DIED)} == killers
    assert all(is_written(uid, results[uid]) for uid in results.keys() - killers)


# -- left early ----------------------------------------------------------------------------------


def test_left_early_the_workers_end_though_they_are_in_the_middle_of_a_series(
    announcements: Announcements,
) -> None:
    series = ["first", *map(str, range(10))]
    results = finished(partial(work.block_but, "first", announcements.path), series, 2)
    assert next(results)[0] == "first"
    assert len(announcements.processes(2)) == 2
    results.close()  # type: ignore[attr-defined]
    announcements.wait_until_all_ended()


def test_an_error_of_who_takes_the_outcomes_ends_the_workers(announcements: Announcements) -> None:
    def take_one() -> None:
        do = partial(work.block_but, "first", announcements.path)
        for _ in finished(do, ["first", *map(str, range(10))], 2):
            assert len(announcements.processes(2)) == 2
            raise ConnectionError

    with pytest.raises(ConnectionError):
        take_one()
    announcements.wait_until_all_ended()


@contextmanager
def mapping(kind: str, announcements: Announcements, state: Path) -> Iterator[subprocess.Popen]:
    """Start a process that maps blocking series, as the head of a group as a terminal has it."""
    arguments = [kind, str(announcements.path), str(state)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.work", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("kind", "workers"), [("pool", 2), ("alone", 1)])
def test_ctrl_c_ends_the_process_and_its_workers_at_once_and_only_it_complains(
    tmp_path: Path, announcements: Announcements, kind: str, workers: int
) -> None:
    with mapping(kind, announcements, tmp_path / "state") as process:
        announcements.processes(workers)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=DEADLINE)
        announcements.wait_until_all_ended()
    assert process.returncode == -signal.SIGINT
    assert complaint.count("Traceback") == 1
    assert complaint.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize(("kind", "workers"), [("pool", 2), ("alone", 1)])
def test_workers_do_not_outlive_a_parent_that_is_killed(
    tmp_path: Path, announcements: Announcements, kind: str, workers: int
) -> None:
    with mapping(kind, announcements, tmp_path / "state") as process:
        announcements.processes(workers)
        process.kill()
        process.wait(DEADLINE)
        announcements.wait_until_all_ended()


def test_threads_take_series_at_the_same_time_and_each_failure_is_its_own() -> None:
    meeting = threading.Barrier(8, timeout=DEADLINE)

    def met(series: str, **_: object) -> SeriesResult:
        meeting.wait()
        return work.fail(series)

    series = [*(f"series {n}" for n in range(3)), *map(str, range(37))]
    outcomes = [pair for pair in map_series(met, series, 0, threads=8) if pair is not None]
    assert sorted(uid for uid, _ in outcomes) == sorted(series)
    failed = {uid: outcome for uid, outcome in outcomes if isinstance(outcome, SeriesFailure)}
    assert {uid: outcome.reason for uid, outcome in failed.items()} == {
        uid: f"{uid} has no files" for uid in series[:3]
    }


def test_whoever_stops_asking_stops_the_threads() -> None:
    begun: list[str] = []

    def note(series: str, **_: object) -> SeriesResult:
        begun.append(series)
        return work.written(series)

    outcomes = map_series(note, [str(n) for n in range(1_000)], 0, threads=4)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert len(begun) < 100


def test_of_the_files_of_a_task_one_that_gets_no_place_fails_its_series_alone(
    tmp_path: Path,
) -> None:
    series = ["1", "taken", "series without success", "2"]
    pairs = [(partial(work.write_file, tmp_path), uid) for uid in series]
    first, taken, failed, last = attempt_some(pairs)
    assert is_written("1", first)
    assert is_written("2", last)
    assert taken == SeriesFailure(f"Is a directory: {tmp_path}/taken")
    assert failed == SeriesFailure("series without success has no files")
    assert {path.name for path in tmp_path.iterdir()} == {"1", "taken", "2"}


def test_series_of_workers_are_on_disk_when_their_outcome_is_known(tmp_path: Path) -> None:
    series = list("0123456789abcdef")
    seen = set()
    for uid, outcome in finished(partial(work.write_file, tmp_path), series, 2):
        assert is_written(uid, outcome)
        assert (tmp_path / uid).read_bytes() == uid.encode()
        seen.add(uid)
    assert seen == set(series)


def test_where_nothing_can_be_written_or_removed_any_more_each_series_fails_alone(
    tmp_path: Path,
) -> None:
    series = [str(number) for number in range(20)]
    results = dict(finished(partial(work.write_in_a_directory_that_closes, tmp_path), series, 2))
    assert results.keys() == set(series)
    failed = {
        uid: outcome for uid, outcome in results.items() if isinstance(outcome, SeriesFailure)
    }
    placed = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert failed.keys() == set(series) - placed
    assert failed
    assert all(str(tmp_path) in outcome.reason for outcome in failed.values())
