"""How a sample takes the place of `raw`: whole or not at all, and never over someone's data.

What the sample holds is no business of this module.
"""

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import names_in_brief
from aneurysm_assets.storage.atomic_files import replace_directory

MARKER = ".aneurysm-assets-sample"

_EXPLANATION = """\
This directory was written by `aneurysm-assets sample`. It is sample data, not the RSNA data set.
Running the command again replaces the whole directory as long as nothing was added to it; what
was written is listed below (files of a directory, or SHA-256 of a file), so that additions are
noticed and kept.
"""

_KEPT = ".gitkeep"
_FOLDERS = ("series", "segmentations")


def replace_raw(directory: Path, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write a new `directory/raw`, in place of an earlier sample if there is one.

    Parameters
    ----------
    directory : Path
        The data root; made if it is not there.
    fill : callable
        Writes the content into the directory it is given.

    Returns
    -------
    Path
        `directory/raw`, complete.

    Raises
    ------
    InputError
        What is at `directory/raw` is not, or not only, what an earlier call wrote; or the disk
        does not take the sample. `raw` is then as it was, and nothing partial is left.
    """
    raw = directory / "raw"
    token = secrets.token_hex(4)
    fresh = directory / f"raw.{token}.partial"
    old = directory / f"raw.{token}.old.partial"
    try:
        _refuse_foreign(raw)
        fresh.mkdir(parents=True)
        fill(fresh)
        _write_marker(fresh)
        # Writing can take minutes, in which someone may have put data here.
        _refuse_foreign(raw)
        if (raw / _KEPT).is_file():
            shutil.copyfile(raw / _KEPT, fresh / _KEPT)
        replace_directory(fresh, raw, old if raw.exists() else None)
    except OSError as error:
        where = error.filename or raw
        raise InputError(
            f"cannot write the sample to {raw}: {error.strerror or error} ({where}); "
            "free the path or the disk, or give another directory"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return raw


def _write_marker(raw: Path) -> None:
    lines = [f"{_measure(path)}\t{name}" for name, path in sorted(_entries(raw))]
    text = "\n".join([_EXPLANATION, *lines, ""])
    (raw / MARKER).write_text(text, encoding="utf-8", newline="\n")


def _refuse_foreign(raw: Path) -> None:
    """Raise `InputError` unless `raw` is absent, empty, or an earlier sample with nothing added."""
    if raw.is_symlink():
        raise InputError(
            f"{raw} is a symbolic link, which the sample neither follows nor replaces: "
            "remove the link, or give another directory"
        )
    if not raw.exists():
        return
    if not raw.is_dir():
        raise InputError(
            f"{raw} is a file, not a directory written by `aneurysm-assets sample`: "
            "move it away, or give another directory"
        )
    marker = raw / MARKER
    if marker.is_file() and not marker.is_symlink():
        finding = "is a sample to which something was added, or in which a CSV was changed"
        found = sorted(_added(raw, _recorded(marker)))
    else:
        finding = "was not written by `aneurysm-assets sample`"
        found = sorted(path.name for path in raw.iterdir() if path.name != _KEPT)
    if found:
        raise InputError(
            f"{raw} {finding} ({names_in_brief(found)}): "
            "move it away, or give another directory for the sample"
        )


def _recorded(marker: Path) -> dict[str, str]:
    """Read which entries the sample had, and how much each held."""
    lines = marker.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.split("\t", 1) for line in lines if "\t" in line)
    return {name: measure for measure, name in pairs}


def _added(raw: Path, recorded: dict[str, str]) -> Iterator[str]:
    """Yield the entries of `raw` that hold anything which the sample did not write.

    What the user removed from a sample is no reason to keep it, so fewer files are no addition.
    """
    for name, path in _entries(raw):
        before = recorded.get(name)
        if before is None:
            yield name
        elif path.is_dir() and before.isdecimal():
            if int(_measure(path)) > int(before):
                yield name
        elif _measure(path) != before:
            yield name


def _entries(raw: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of what stands in `raw` and, one level deeper, in its two folders."""
    for path in raw.iterdir():
        if path.name in _FOLDERS and path.is_dir() and not path.is_symlink():
            yield from ((f"{path.name}/{inner.name}", inner) for inner in path.iterdir())
        elif path.name not in (MARKER, _KEPT):
            yield path.name, path


def _measure(path: Path) -> str:
    """Return the number of entries of a directory, or the SHA-256 of a file."""
    if path.is_dir():
        return str(sum(1 for _ in path.iterdir()))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
