"""Which strings may be taken as a DICOM UID, and so become a partition key and part of a path."""

import re

# PS3.5 section 9.1: components of digits joined by dots, 64 characters at most. Leading zeros are
# let pass: real files carry them, and they harm nothing.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_MAX_LENGTH = 64


def is_uid(text: str) -> bool:
    """Tell whether a string is a DICOM UID (PS3.5 section 9.1), and so safe in a path.

    Parameters
    ----------
    text : str
        Anything that came from a CSV, a directory listing or a partition key.

    Returns
    -------
    bool
        True for `[0-9]` components joined by single dots, at most 64 characters in all.
    """
    return len(text) <= _MAX_LENGTH and _UID.fullmatch(text) is not None
