"""What only some work needs and only some install: whether it is there, and how to get it.

Nothing of it is imported here, so that whoever asks waits for none of it.
"""

from importlib.util import find_spec

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.tables import DATASET_REPORT, SERIES_PREVIEW

_IMPORTED = {
    "preview": {
        "pillow": "PIL",
        "imagecodecs": "imagecodecs",
        "python-gdcm": "gdcm",
        "pylibjpeg": "pylibjpeg",
        "pylibjpeg-openjpeg": "openjpeg",
        "pylibjpeg-libjpeg": "libjpeg",
    },
    "report": {"matplotlib": "matplotlib"},
}
"""The packages of an extra, and what each is imported as."""


def missing_packages(extra: str) -> list[str]:
    """Return the packages of one of the extras of `pyproject.toml` that are not installed."""
    return [name for name, module in _IMPORTED[extra].items() if find_spec(module) is None]


def how_to_install(extra: str) -> str:
    """Return the command that installs one of the extras of `pyproject.toml`."""
    return f"pip install 'aneurysm-assets[{extra}]'"


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
