"""How a worker process begins, before it has imported what its work needs.

What it does then belongs to `series_map`. polars and numpy must not be imported here: they ask for
their number of threads when they are.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing.connection import wait as wait_for_any


class _WithoutUnused(MetaPathFinder, Loader):
    """Finds what our libraries import wherever it is, and we do not use, and does not load it.

    pandas, for pyarrow: a quarter of a second and 40 MB. pydicom while nibabel is imported, which
    reads DICOM in NIfTI's extensions by it: a third of a second. A None in `sys.modules` would be
    shorter: compiled modules, as pyarrow's, take it for pandas.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        unused = fullname == "pandas" or (fullname == "pydicom" and _nibabel_is_half_imported())
        return ModuleSpec(fullname, self) if unused else None

    def create_module(self, spec: ModuleSpec) -> None:
        raise ImportError(f"{spec.name} is left out in this process")


def _nibabel_is_half_imported() -> bool:
    module = sys.modules.get("nibabel.nifti1")
    return module is not None and not hasattr(module, "Nifti1Image")


def leave_out_unused() -> None:
    """Let the imports of this process, which has to be one of ours alone, leave out the unused."""
    sys.meta_path.insert(0, _WithoutUnused())


def start_worker(modules: Sequence[str] = ()) -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and does not outlive it.

    Parameters
    ----------
    modules : sequence of str
        What it imports, before there is work that needs them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Workers are as many as processors: what each hands to threads costs more than it gains.
    for library in ("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    leave_out_unused()
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what it says becomes read_error
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()
    for name in modules:
        importlib.import_module(name)


def _exit_with(sentinel: int) -> None:
    # A parent killed with SIGKILL closes no queue: without this, workers would wait for ever.
    wait_for_any([sentinel])
    os._exit(1)
