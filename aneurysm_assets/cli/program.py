"""What this program is called where it was started. What it does stands in `main`."""

import sys
from pathlib import Path
from shlex import quote
from shutil import which


def command_name() -> str:
    """Return what to type here: its plain name where the shell finds it, else the path it has."""
    called = Path(sys.argv[0])
    found = which("aneurysm-assets")
    return "aneurysm-assets" if found and Path(found) == called.absolute() else quote(sys.argv[0])
