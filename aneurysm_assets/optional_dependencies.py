"""What only some work needs and only some install: whether it is there, and how to get it.

Nothing of it is imported here, so that whoever asks waits for none of it.
"""

from importlib.util import find_spec

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.tables import DATASET_REPORT, SERIES_PREVIEW


def how_to_install(extra: str) -> str:
    """Return the command that installs one of the extras of `pyproject.toml`."""
    return f"pip install -e '.[{extra}]'"


def require_pillow() -> None:
    """Make sure that pictures can be drawn.

    Raises
    ------
    InputError
        Pillow is not installed; the text says how to.
    """
    _require("PIL", "Pillow", SERIES_PREVIEW.name, "preview")


def require_matplotlib() -> None:
    """Make sure that figures can be drawn.

    Raises
    ------
    InputError
        matplotlib is not installed; the text says how to.
    """
    _require("matplotlib", "matplotlib", DATASET_REPORT.name, "report")


def _require(package: str, distribution: str, what: str, extra: str) -> None:
    if find_spec(package) is None:
        raise InputError(
            f"{what} is drawn with {distribution}, which is not installed: {how_to_install(extra)}"
        )
