"""Which DICOM attributes a user wants beside those that are always read.

Apart from `Settings`, for the columns of the tables are defined by it before anything has settings.
Nothing heavy is imported: fingerprints depend on it too.
"""

import os
import re
from collections.abc import Mapping

from aneurysm_assets.errors import InputError

TAGS = "ANEURYSM_TAGS"

_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


def extra_tags(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the keywords that `TAGS` names, sorted, each once.

    Parameters
    ----------
    environment : mapping of str to str, optional
        `os.environ` where not given.

    Raises
    ------
    InputError
        What it names is no keyword.
    """
    text = (os.environ if environment is None else environment).get(TAGS, "")
    names = sorted(set(text.replace(",", " ").split()))
    for name in names:
        if not _KEYWORD.fullmatch(name):
            raise InputError(
                f"{TAGS}: {name!r} is no DICOM keyword; give keywords such as RepetitionTime, "
                "separated by commas"
            )
    return tuple(names)
