"""The fingerprints of many series directories, asked of interpreters of their own.

Imports next to nothing, so that it can be begun before what is slow to import. What a fingerprint
is belongs to `storage.fingerprint`, what is made of it to `fingerprints`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import aneurysm_assets
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage import fingerprint
from aneurysm_assets.storage.object_path import ObjectPath

_WORTH_PROCESSES = 500
"""Fewer series than this are listed before a second interpreter has started."""


class FingerprintProcesses:
    """Lists directories in other processes, as a context manager; they end with the block.

    Interpreters of their own and no pool: a pool's processes would import all that this one has
    imported, and outlive it where it is killed.

    Parameters
    ----------
    settings : Settings
        Where the series are.
    series : sequence of str
        Names in the directory of the series. Of few, or with fewer than two processes, none is
        asked about; nor where they are in a bucket, which one process lists as fast.
    processes : int
        Interpreters that list at the same time.
    """

    def __init__(self, settings: Settings, series: Sequence[str], processes: int) -> None:
        self._root = settings.series_root
        self._parts: list[Sequence[str]] = []
        in_bucket = isinstance(self._root, ObjectPath)
        if processes > 1 and len(series) >= _WORTH_PROCESSES and not in_bucket:
            self._parts = [series[place::processes] for place in range(processes)]
        self._asked: list[subprocess.Popen[str]] = []
        self._answers: dict[str, str] | None = None

    def __enter__(self) -> Self:
        """Begin; where no process can be started, nothing is asked, and `answers` has none."""
        try:
            for part in self._parts:
                self._asked.append(self._ask(part))
        except OSError:
            # Too little memory, too many processes: the directories are listed in this one.
            self._end()
            self._parts, self._asked = [], []
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End what has not ended."""
        self._end()

    def answers(self) -> dict[str, str]:
        """Wait for the fingerprints, by series; those that were not asked about are not there.

        Raises
        ------
        OSError
            A process did not end well.
        """
        if self._answers is None:
            self._answers = {}
            for part, process in zip(self._parts, self._asked, strict=True):
                found, _ = process.communicate()
                if process.returncode:
                    raise OSError(
                        f"a process that lists the series ended with {process.returncode}"
                    )
                self._answers.update(zip(part, json.loads(found), strict=True))
        return self._answers

    def _ask(self, series: Sequence[str]) -> "subprocess.Popen[str]":
        process = subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
            # Without the working directory on its path: a json.py there is not the library's.
            [sys.executable, "-P", "-m", fingerprint.__name__],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.stdin is not None:
            process.stdin.write(json.dumps([f"{self._root}/{uid}" for uid in series]))
            process.stdin.close()
            process.stdin = None  # `communicate` would flush what is closed
        return process

    def _end(self) -> None:
        for process in self._asked:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _environment() -> dict[str, str]:
    """Return the environment in which the package is found as this process found it."""
    root = Path(aneurysm_assets.__file__ or "").parents[1]
    # What is installed is found anyway, and put first would go before the standard library.
    own = [] if root.name in {"site-packages", "dist-packages"} else [str(root)]
    # An empty part would be the working directory.
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*own, *given])}
