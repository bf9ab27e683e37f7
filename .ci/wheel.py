"""Whether wheel and sdist work where nothing else is: built, installed, run, and the UI served.

Builds both from a copy of the tracked files, installs the wheel into a new environment with the
pins of constraints.txt, and there, outside the project, runs `sample`, `run` and `ui` as a user
would; a browser has to see the assets and the runs in that UI. The sdist is built into a wheel
again, which has to hold the same files. Exits with 1 where one of it fails.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

from playwright.sync_api import expect

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))  # for the browser of the tests alone

from tests.chromium import chromium  # noqa: E402

UI_SECONDS = 120


def main() -> int:
    """Build, install and use; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wheel, sdist = _built(root)
        print(f"built {wheel.name} and {sdist.name}", flush=True)
        again = root / "again"
        _call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", again, sdist)
        (of_sdist,) = again.glob("*.whl")
        if _names(of_sdist) != _names(wheel):
            print(f"sdist and wheel differ: {sorted(_names(of_sdist) ^ _names(wheel))}")
            return 1
        bin_of_user = _installed(root, wheel)
        program = bin_of_user / "aneurysm-assets"
        home = root / "home"
        home.mkdir()
        for arguments in (("--version",), ("sample", "try"), ("run", "--data", "try")):
            _call(program, *arguments, cwd=home)
        return 0 if _ui_answers(program, home) else 1


def _built(root: Path) -> tuple[Path, Path]:
    """Build from the tracked files alone: what lies about here is in no release."""
    source, out = root / "source", root / "dist"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True
    ).stdout
    subprocess.run(
        ["tar", "-c", "--null", "-T", "-", "-f", root / "source.tar"],
        cwd=PROJECT, input=tracked, check=True,
    )  # fmt: skip
    _call("tar", "-x", "-f", root / "source.tar", "-C", source)
    _call(sys.executable, "-m", "venv", root / "builder")
    python = root / "builder" / "bin" / "python"
    _call(python, "-m", "pip", "install", "-q", "build")
    _call(python, "-m", "build", "-o", out, source)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def _installed(root: Path, wheel: Path) -> Path:
    venv.create(root / "user", symlinks=True)
    python = root / "user" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    _call(*pip, "install", "-q", "--no-compile", "-c", PROJECT / "constraints.txt", wheel)
    _call(*pip, "check")
    return python.parent


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _ui_answers(program: Path, home: Path) -> bool:
    """Serve the UI, look at it, then interrupt it, which is to end it with 0."""
    said = home / "said"
    with said.open("w") as output:
        process = subprocess.Popen(
            [program, "ui", "--data", "try"], cwd=home, stdout=output, env=_environment()
        )
        try:
            end = time.monotonic() + UI_SECONDS
            while "the Dagster UI is at" not in said.read_text() and time.monotonic() < end:
                time.sleep(0.5)
            if url := said.read_text().partition("the Dagster UI is at ")[2].partition(";")[0]:
                _look(url)
            process.send_signal(signal.SIGINT)
            status = process.wait(60)
        finally:
            process.kill()
    print(said.read_text(), end="", flush=True)
    return status == 0 and "the Dagster UI is at" in said.read_text()


def _look(url: str) -> None:
    """See the assets in the catalogue, and on the timeline the runs of `aneurysm-assets run`.

    Raises
    ------
    AssertionError
        One of it is not there.
    """
    with chromium() as browser, browser.page() as page:
        page.goto(f"{url}/assets")
        for asset in ("dicom_tags", "unified_metadata", "series_quality"):
            expect(page.get_by_role("link", name=f"{asset} {asset}")).to_be_visible()
        page.goto(f"{url}/overview/activity/timeline")
        expect(page.get_by_text("Jobless asset materializations").first).to_be_visible()
    print(f"a browser saw the assets and the runs at {url}", flush=True)


def _environment() -> dict[str, str]:
    """Return the environment without what would bring the project back in."""
    unwanted = ("PYTHONPATH", "ANEURYSM_", "DAGSTER_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def _call(*command: object, cwd: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, env=_environment(), check=True)


if __name__ == "__main__":
    sys.exit(main())
