"""Tests what we use of Dagster's private names on the oldest and the newest release allowed.

Each release is installed into an environment that is thrown away, over the packages of the one that
runs this. The extra `cluster` comes with the oldest: the newest release may not have it yet.
"""

import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NAMES = "tests/test_dagster_internals.py"
QUICK = (NAMES, "tests/instance/test_event_log.py", "tests/runs")
"""The end of the suite that says soonest whether a release can be used."""


def requirements() -> tuple[list[str], list[str]]:
    """Return the oldest releases, with those of the extra `cluster`, and what is allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = [each for each in project["dependencies"] if each.startswith("dagster")]
    cluster = project["optional-dependencies"]["cluster"]
    bounds = [*allowed, *(each for each in cluster if each.startswith("dagster"))]
    return [bound.partition(",")[0].replace(">=", "==") for bound in bounds], allowed


def run_tests(packages: Sequence[str], tests: Sequence[str]) -> None:
    """Run tests with the newest releases of some packages.

    Raises
    ------
    subprocess.CalledProcessError
        The packages cannot be installed, or a test fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, symlinks=True)
        python = Path(directory) / "bin" / "python"
        base = {"base": directory, "platbase": directory}
        packages_of_environment = Path(sysconfig.get_path("purelib", vars=base))
        # Later on the path than the environment's own, and with their .pth files.
        (packages_of_environment / "ours.pth").write_text(
            f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        )
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        subprocess.run(
            [*pip, "--no-compile", "--no-warn-conflicts", "--upgrade", *packages], check=True
        )
        show = "import dagster; print('Dagster', dagster.__version__, flush=True)"
        subprocess.run([python, "-c", show], check=True)
        subprocess.run([python, "-m", "pytest", *tests], check=True, cwd=ROOT)


if __name__ == "__main__":
    oldest, allowed = requirements()
    run_tests(oldest, [NAMES])
    run_tests(allowed, QUICK)
