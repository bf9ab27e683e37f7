"""How a worker process begins, before it has imported what its work needs.

What it does then belongs to `series_map`. polars and numpy must not be imported here: they ask for
their number of threads when they are.
"""

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing.connection import wait as wait_for_any

_ALLOCATIONS = 50_000
"""Of objects that may hold others, until garbage is looked for: about those of ten series."""


class _WithoutPandas(MetaPathFinder, Loader):
    """Finds pandas before others do, and does not load it.

    A None in `sys.modules` would be shorter: compiled modules, as pyarrow's, take it for pandas.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> None:
        raise ImportError(f"{spec.name} is left out in worker processes")


def start_worker() -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Workers are as many as processors: what each hands to threads costs more than it gains.
    for library in ("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    # pyarrow imports pandas wherever it finds it: a quarter of a second and 40 MB, for nothing.
    sys.meta_path.insert(0, _WithoutPandas())
    # The rows of a series hold no cycles; looking for some all the time is a twentieth of the work.
    gc.set_threshold(_ALLOCATIONS)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what it says becomes read_error
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()


def _exit_with(sentinel: int) -> None:
    # A parent killed with SIGKILL closes no queue: without this, workers would wait for ever.
    wait_for_any([sentinel])
    os._exit(1)
