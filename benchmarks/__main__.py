"""`python -m benchmarks [NAME ...]`: measure, print a table, write it as JSON and into a document.

--results FILE    where the JSON goes; lines of programs that do not run stay in it
--document FILE   whose generated part becomes the table
--below DIR       where files are written meanwhile; 6 GB for all
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Results
from deploy.servers.process import MissingProgram

NAMES = (
    "header",
    "directory",
    "peers",
    "cold",
    "dagster_events",
    "event_storages",
    "many_partitions",
    "tick",
    "cluster",
    "object_store",
    "million",
    "whole_run",
    "growth",
    "former",
    "volumes",
)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results.json"))
    parser.add_argument("--document", type=Path)
    parser.add_argument("--below", type=Path)
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = Results.read(options.results)
    for name in options.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.below) as directory:
            module = importlib.import_module(f"benchmarks.{name}")
            try:
                results.put(name, list(module.measure(Path(directory))))
            except MissingProgram as error:
                print(f"{name}: not measured: {error}", file=sys.stderr)
        # After each, for some take long and the next may fail.
        results.write(options.results)
    print(results.as_text())
    if options.document:
        results.write_into(options.document)


if __name__ == "__main__":
    main()
