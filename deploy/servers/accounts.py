"""Who a server runs as that refuses to run as root, and files of its own for it."""

import os
import pwd
import shutil
from pathlib import Path

_ACCOUNTS = ("postgres", "nobody")


def unprivileged() -> str | None:
    """Return the account for such a server where we are root, else None: then it is ours."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in (*_ACCOUNTS, "root") if name in known or name == "root")


def private_directory(path: Path) -> Path:
    """Make a directory for the account of `unprivileged` alone; its parents must let that by."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    give(path)
    return path


def private_file(path: Path, text: str) -> Path:
    """Write a file that only that account reads, as one with a password has to be."""
    path.touch(mode=0o600)
    path.write_text(text)
    give(path)
    return path


def give(path: Path) -> None:
    """Let that account own a file or directory."""
    account = unprivileged()
    if account is not None:
        shutil.chown(path, account)
