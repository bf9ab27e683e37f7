"""The metadata stage for the RSNA Intracranial Aneurysm Detection data, as Dagster assets.

Each folder says in its own docstring what belongs in it; docs/architecture.md has them all, in the
order in which imports run down. The names below are imported when they are used, without Dagster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aneurysm_assets.parallel.forks import require_usable_polars

if TYPE_CHECKING:
    from aneurysm_assets.loading.dataset import Dataset, open_dataset
    from aneurysm_assets.loading.volume import Series, load_volume, read_series

__all__ = ["Dataset", "Series", "load_volume", "open_dataset", "read_series"]

_MODULES = {
    "Dataset": "aneurysm_assets.loading.dataset",
    "Series": "aneurysm_assets.loading.volume",
    "load_volume": "aneurysm_assets.loading.volume",
    "open_dataset": "aneurysm_assets.loading.dataset",
    "read_series": "aneurysm_assets.loading.volume",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of whatever is asked for
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_usable_polars()  # importing it is enough to wait for ever
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
