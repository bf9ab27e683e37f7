"""`python -m benchmarks.sharded [NAME ...]`: measure what docs/scale.md says, and write it there.

--results FILE    where the JSON goes; lines of programs that did not run now stay in it
--document FILE   whose marked parts become the tables
--below DIR       where files are written meanwhile; 5 GB at a time
--only-document   measure nothing: write the tables from the JSON, and from that of `make bench`
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import many_partitions, shard_simulation, survey_tick
from benchmarks.measure import Line
from benchmarks.report import Results, figure, sentence
from benchmarks.scale_costs import costs

PROGRAMS: dict[str, Callable[[Path], Iterator[Line]]] = {
    "many_partitions": many_partitions.measure,
    "wide": shard_simulation.measure_wide,
    "simulation": shard_simulation.measure,
    "survey_tick": survey_tick.measure,
}

BEGIN, END = "<!-- {}: made by `python -m benchmarks.sharded` -->", "<!-- {}: end -->"

STAGE = Path("benchmarks/results.json")


def main() -> None:
    """Read the options and run."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharded", description=lines[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/scale.json"))
    parser.add_argument("--document", type=Path)
    parser.add_argument("--below", type=Path)
    parser.add_argument("--only-document", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PROGRAMS):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    results = Results.read(options.results)
    for name in () if options.only_document else options.names or PROGRAMS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="sharded-", dir=options.below) as directory:
            results.put(name, list(PROGRAMS[name](Path(directory))))
        # After each, for they take long and the next may fail.
        results.write(options.results)
    if not options.only_document:
        print(results.as_text())
    if options.document:
        write_into(options.document, tables(results, Results.read(STAGE)))


def tables(scale: Results, stage: Results) -> dict[str, str]:
    """Return the parts of the document by name, as Markdown."""
    parts = {}
    for name in PROGRAMS:
        program = scale.programs[name]
        lines = [Line(**line) for line in program["lines"]]
        side_by_side = name == "many_partitions"
        table = _by_count(lines) if side_by_side else _one_by_one(_without_prefix(lines))
        parts[name] = f"{sentence(program)}\n\n{table}"
    parts |= {name: _one_by_one(lines) for name, lines in costs(scale, stage).items()}
    return parts


def write_into(document: Path, parts: dict[str, str]) -> None:
    """Put each part between its marks.

    Raises
    ------
    ValueError
        The document has no place for one.
    """
    text = document.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{document} has no {begin} with {end} after it")
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    document.write_text(text, encoding="utf-8")


def _one_by_one(lines: Iterable[Line]) -> str:
    rows = [(line.what, figure(line.ours, line.unit), line.note) for line in lines]
    return _markdown([("what", "figure", "note"), *rows])


def _without_prefix(lines: Sequence[Line]) -> list[Line]:
    """Leave out what all lines of a program begin with."""
    return [
        Line(line.what.partition(": ")[2], line.ours, line.unit, note=line.note) for line in lines
    ]


def _by_count(lines: Iterable[Line]) -> str:
    """Put the lines of different numbers of partitions side by side."""
    columns: dict[str, dict[str, str]] = {}
    for line in lines:
        count, _, what = line.what.partition(": ")
        wall = f" ({line.note})" if line.note else ""
        columns.setdefault(count, {})[what] = figure(line.ours, line.unit) + wall
    first = next(iter(columns.values()))
    heads = [count.removesuffix(" of one asset") for count in columns]
    rows = [(what, *(column[what] for column in columns.values())) for what in first]
    return _markdown([("what", *heads), *rows])


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rest))


if __name__ == "__main__":
    main()
