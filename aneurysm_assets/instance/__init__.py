"""The Dagster instance of a data root: its storage, its event log, and which process works on it.

What an instance records about series belongs to `runs`, an instance that hosts share to
`cluster`.
"""

from typing import Any

_NAMED_IN_FORMER_CONFIGURATIONS = ("DataRootStorage", "DataRootComputeLogManager")


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as modules have it
    """Return the classes that a `dagster.yaml` of before this was a folder names here."""
    if name in _NAMED_IN_FORMER_CONFIGURATIONS:
        from aneurysm_assets.instance import data_root  # noqa: PLC0415 - loads Dagster

        return getattr(data_root, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
