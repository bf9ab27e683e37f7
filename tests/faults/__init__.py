"""Calls of the system that fail when a test wants them to, in real processes."""

import errno
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

KINDS = ("open", "read", "write", "fsync", "rename")

_SOURCE = Path(__file__).with_name("faulty_calls.c")


@dataclass(frozen=True)
class Fault:
    """The calls of one kind that fail: `times` from the `first` on, counted over all processes."""

    kind: str
    first: int
    error: int
    times: int = 1

    def __str__(self) -> str:
        times = "" if self.times == 1 else f", {self.times} times"
        return f"{errno.errorcode[self.error]} at {self.kind} {self.first}{times}"


class FaultyCalls:
    """The library that lets calls fail, compiled."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            if os.environ.get("CI"):
                raise AssertionError("no C compiler")
            pytest.skip("no C compiler")
        self._counts = directory / "counts"
        self._library = directory / "faulty_calls.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", self._library, _SOURCE, "-ldl"], check=True
        )

    def variables(self, under: Path, fault: Fault | None = None) -> dict[str, str]:
        """Return the environment in which calls on files below a directory count, and fail."""
        self._counts.write_bytes(bytes(8 * len(KINDS)))
        variables = {
            "LD_PRELOAD": str(self._library),
            "FAULTS_UNDER": str(under),
            "FAULTS_COUNTS": str(self._counts),
        }
        if fault is not None:
            numbers = (KINDS.index(fault.kind), fault.first, fault.error, fault.times)
            variables["FAULT"] = ":".join(map(str, numbers))
        return variables

    def counted(self) -> dict[str, int]:
        """Return how many calls there were of each kind since `variables` was asked for."""
        numbers = struct.unpack(f"={len(KINDS)}Q", self._counts.read_bytes())
        return dict(zip(KINDS, numbers, strict=True))
