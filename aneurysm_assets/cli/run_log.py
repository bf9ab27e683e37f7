"""The log of a run: one file per run in `<data>/logs`, in which everything that happened stands.

Plain `logging`. A line is in the file when the call returns (written, not synced to the disk), so a
crash loses none. A log that cannot be written never ends a run: `RunLog.trouble` says so, once.
"""

import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import printable
from aneurysm_assets.settings import Settings

if TYPE_CHECKING:
    from aneurysm_assets.parallel.series_map import SeriesResult
    from aneurysm_assets.schema.tables import Artifact

_PACKAGE = "aneurysm_assets"
_LOG = logging.getLogger(__name__)

_PARTS = ("aneurysm-assets", "dagster", "polars", "pyarrow", "pydicom", "nibabel", "numpy")


class RunLog:
    """A reporter that writes down what it is told, and how the run ended.

    The file is made by the first report, or by the end: a run that is refused (`InputError`)
    leaves nothing.

    Parameters
    ----------
    settings : Settings
        Of the run; the file is `<data>/logs/run-<UTC time>-<process>.log`.
    only : sequence of str
        The series asked for.
    force : bool
        Whether materialized series are read again.
    """

    def __init__(
        self, settings: Settings, *, only: Sequence[str] = (), force: bool = False
    ) -> None:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = settings.data / "logs" / f"run-{started}-{os.getpid()}.log"
        self._file = _LineFile(self.path)
        self._settings = settings
        self._only = only
        self._force = force
        self._left: dict[str, int] = {}
        self._begun: dict[str, float] = {}
        self._started = time.monotonic()

    @property
    def trouble(self) -> str | None:
        """Why the log is not whole; None where it is."""
        return self._file.trouble

    def __enter__(self) -> Self:
        """Begin to listen to this package."""
        logger = logging.getLogger(_PACKAGE)
        logger.addHandler(self._file)
        logger.setLevel(logging.INFO)
        versions = ", ".join(f"{part} {version(part)}" for part in _PARTS)
        _LOG.info("%s, Python %s, %s", versions, platform.python_version(), platform.platform())
        _LOG.info("command: %s", shlex.join(sys.argv))
        for name in ("data", "raw", "interim", "workers", "threads", "unlabelled"):
            _LOG.info("setting: %s = %s", name, getattr(self._settings, name))
        _LOG.info("setting: DAGSTER_HOME = %s", os.environ.get("DAGSTER_HOME") or "not set")
        _LOG.info("series asked for: %s", " ".join(self._only) or "all")
        _LOG.info("done ones taken again: %s", self._force)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write how it ended; where that was unexpected, with the traceback."""
        seconds = time.monotonic() - self._started
        if not isinstance(error, InputError):
            self._file.open()
        if error is None:
            _LOG.info("ended after %.1f s", seconds)
        elif isinstance(error, InputError):
            _LOG.error("refused: %s", error)
        elif isinstance(error, KeyboardInterrupt):
            _LOG.warning("interrupted after %.1f s", seconds)
        else:
            _LOG.critical("broke off after %.1f s", seconds, exc_info=error)
        logging.getLogger(_PACKAGE).removeHandler(self._file)
        self._file.close()

    def begin(self, table: "Artifact", series: int) -> None:
        """Write that a table begins."""
        self._file.open()
        self._left[table.name] = series
        self._begun[table.name] = time.monotonic()
        _LOG.info("%s: begins, %d series", table.name, series)

    def done(self, table: "Artifact", series_instance_uid: str, written: "SeriesResult") -> None:
        """Write that a series is done, and what is odd about it."""
        _LOG.info(
            "%s %s: done, %d rows of %d files in %.3f s",
            table.name,
            series_instance_uid,
            written.table.rows if written.table else 0,
            written.files,
            written.seconds,
        )
        if written.unreadable_files:
            _LOG.warning(
                "%s %s: %d of its files could not be read",
                table.name,
                series_instance_uid,
                written.unreadable_files,
            )
        for note in written.notes:
            _LOG.warning("%s %s: %s", table.name, series_instance_uid, note)
        self._one_less(table)

    def failed(self, table: "Artifact", series_instance_uid: str, reason: str) -> None:
        """Write that a series failed, and why."""
        _LOG.error("%s %s: failed: %s", table.name, series_instance_uid, reason)
        self._one_less(table)

    def summary(self, line: str) -> None:
        """Write a line of the closing summary."""
        self._file.open()
        _LOG.info("summary: %s", line.strip())

    def _one_less(self, table: "Artifact") -> None:
        self._left[table.name] -= 1
        if not self._left[table.name]:
            seconds = time.monotonic() - self._begun[table.name]
            _LOG.info("%s: ends after %.1f s", table.name, seconds)


class _LineFile(logging.Handler):
    """A file that gets each record in one write; before it is opened, records wait.

    Not logging.FileHandler: that one prints a traceback for each record that the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.trouble: str | None = None
        self._path = path
        self._descriptor: int | None = None
        self._waiting: list[bytes] | None = []
        self.setFormatter(_Formatter())

    def open(self) -> None:
        """Make the file, once, and write what waits."""
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            self._note(error)
        self._write(b"".join(waiting))

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        if self._waiting is None:
            self._write(line)
        else:
            self._waiting.append(line)

    def close(self) -> None:
        super().close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, line)
        except OSError as error:  # the next line may find room again
            self._note(error)

    def _note(self, error: OSError) -> None:
        self.trouble = self.trouble or f"{error.strerror}: {self._path}"


class _Formatter(logging.Formatter):
    """UTC, and no line that a value from a file could forge."""

    converter = time.gmtime  # type: ignore[assignment] # typeshed: without an argument
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n    ".join(map(printable, text.split("\n")))
