"""What was measured, on what machine: as a table on a terminal, as JSON, and in a document."""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from aneurysm_assets.schema.documentation import replace_generated
from aneurysm_assets.storage.atomic_files import atomic_write
from benchmarks.measure import Line

_PACKAGES = ("dagster", "pydicom", "polars", "pyarrow", "numpy")


@dataclass
class Results:
    """The lines of each program, with the machine and the day of each.

    Attributes
    ----------
    programs : dict of str to dict
        By name: `machine`, `day` and `lines`.
    """

    programs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what a file holds, nothing where there is none."""
        return cls(json.loads(path.read_text())) if path.is_file() else cls()

    def put(self, name: str, lines: list[Line]) -> None:
        """Take what a program has measured just now, on this machine."""
        self.programs[name] = {
            "machine": machine(),
            "day": datetime.now(UTC).date().isoformat(),
            "lines": [asdict(line) for line in lines],
        }

    def lines(self) -> list[Line]:
        """Return all lines, in the order in which the programs first ran."""
        return [Line(**line) for program in self.programs.values() for line in program["lines"]]

    def write(self, path: Path) -> None:
        """Write the JSON whole or not at all."""
        text = json.dumps(self.programs, indent=1, ensure_ascii=False) + "\n"
        atomic_write(path, lambda partial: partial.write_text(text))

    def as_text(self) -> str:
        """Return the table for a terminal."""
        rows = [_cells(line) for line in self.lines()]
        width = max((len(row[0]) for row in rows), default=0)
        return "\n".join(
            f"{what:<{width}}  {ours:>12}  {against:<28.28}{theirs:>12}{ratio:>8}  {promise} {note}"
            for what, ours, against, theirs, ratio, promise, note in rows
        )

    def as_markdown(self) -> str:
        """Return the table for a document, below the days and the machines."""
        days: dict[str, list[str]] = {}
        for program in self.programs.values():
            days.setdefault(sentence(program["machine"]), []).append(program["day"])
        machines = [f"Measured {_span(days[machine])} on {machine}" for machine in sorted(days)]
        head = ["what", "ours", "against", "theirs", "ratio", "promised", "note"]
        rows = [head, ["---"] * len(head), *(_cells(line) for line in self.lines())]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        return "\n\n".join([*machines, table])

    def write_into(self, document: Path) -> None:
        """Put the table into the generated part of a Markdown file."""
        text = document.read_text(encoding="utf-8")
        text = replace_generated(text, "benchmarks", self.as_markdown())
        document.write_text(text, encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what a reader has to know of this machine, and nothing that names it."""
    return {
        "python": sys.version.split()[0],
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _span(days: list[str]) -> str:
    first, last = min(days), max(days)
    return first if first == last else f"{first} to {last}"


def sentence(about: dict[str, Any]) -> str:
    """Return what a machine is, as `machine` describes it."""
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    return (
        f"{about['cpus']} cores and {about['memory_gb']} GB, "
        f"{about['system']}, Python {about['python']}, {packages}."
    )


def _cells(line: Line) -> list[str]:
    ratio = "" if line.ratio is None else f"{line.ratio:.3g}x"
    promises = []
    if line.least_ratio is not None:
        promises.append(f"at least {line.least_ratio:g}x")
    if line.most is not None:
        promises.append(f"at most {line.most:g} {line.unit}".strip())
    kept = {None: "", True: ": met", False: ": **not met**"}[line.is_met]
    theirs = "" if line.theirs is None else figure(line.theirs, line.unit)
    promise = " and ".join(promises) + kept
    return [
        line.what,
        figure(line.ours, line.unit),
        line.against,
        theirs,
        ratio,
        promise,
        line.note,
    ]


def figure(value: float, unit: str) -> str:
    """Return a value as a reader wants it: three digits that count, or all of a whole number."""
    return f"{value:,.0f} {unit}".strip() if value >= 100 else f"{value:.3g} {unit}".strip()
