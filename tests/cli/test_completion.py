"""What a shell is offered: by bash itself, quickly, and without a word where there is a fault."""

import os
import subprocess
import sys

import pytest

from aneurysm_assets.cli.completion import series_to_take
from aneurysm_assets.sample.dicom import uid
from tests.processes import SCRIPTS, call

CTA, UNLABELLED = uid("sample", "CTA"), uid("sample", "unlabelled")


def environment(data, **more: str) -> dict[str, str]:
    return {"ANEURYSM_DATA": str(data), **more}


def offered_by_bash(*words: object, **variables: object) -> list[str]:
    """Return what bash would show after Tab on the last word."""
    program = """
        eval "$(aneurysm-assets completion bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _aneurysm_assets_completion aneurysm-assets
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    shown = subprocess.run(
        ["bash", "-c", program, "bash", "aneurysm-assets", *map(str, words)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ
        | {name: str(value) for name, value in variables.items()}
        | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
    )
    assert shown.stderr == ""
    return shown.stdout.split()


def test_bash_completes_commands_options_series_and_columns(sample_data) -> None:
    assert offered_by_bash("st") == ["status"]
    assert "--workers" in offered_by_bash("run", "--w")
    assert offered_by_bash("run", "--data", sample_data, "--series", CTA[:-1]) == [CTA]
    assert offered_by_bash("run", "--series", CTA[:-1], ANEURYSM_DATA=sample_data) == [CTA]
    assert offered_by_bash("export", "--by", "Modality_") == ["Modality_dicom", "Modality_train"]
    assert offered_by_bash("run", "--data", "/nowhere", "--series", "1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell) -> None:
    printed = call("aneurysm-assets", "completion", shell)
    assert printed.returncode == 0, printed.stderr
    assert f"_ANEURYSM_ASSETS_COMPLETE={shell}_complete" in printed.stdout


@pytest.mark.parametrize("words", ["run --series 1.2", "export --by Mod"])
def test_completion_waits_for_no_dagster(sample_data, words) -> None:
    program = (
        "import sys\n"
        "from aneurysm_assets.cli.main import main\n"
        "sys.argv = ['aneurysm-assets']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print('dagster' in sys.modules)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ
        | environment(sample_data, _ANEURYSM_ASSETS_COMPLETE="zsh_complete")
        | {"COMP_WORDS": f"aneurysm-assets {words}", "COMP_CWORD": "3"},
    )
    *offered, dagster = shown.stdout.splitlines()
    assert len(offered) > 3
    assert dagster == "False"


def test_the_series_are_those_that_run_takes(data) -> None:
    labelled = series_to_take(environment(data), "")
    assert CTA in labelled
    assert UNLABELLED not in labelled
    assert len(labelled) == 12
    assert UNLABELLED in series_to_take(environment(data, ANEURYSM_UNLABELLED="1"), "")
    (data / "raw" / "train.csv").unlink()
    assert UNLABELLED in series_to_take(environment(data), "")
    assert series_to_take(environment(data), CTA[:-1]) == [CTA]


def test_names_that_are_no_uid_are_not_offered(data) -> None:
    (data / "raw" / "series" / "$(reboot)").mkdir()
    (data / "raw" / "train.csv").write_bytes(b"\xff\0")
    assert all("$" not in name for name in series_to_take(environment(data), ""))


def test_a_fault_offers_nothing(tmp_path) -> None:
    assert series_to_take(environment(tmp_path), "") == []
    assert series_to_take(environment(tmp_path, ANEURYSM_WORKERS="many"), "") == []
