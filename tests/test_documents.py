"""What the documents name exists: files, headings, commands, options, modules."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aneurysm_assets.cli.main import cli
from tests.conftest import ROOT

DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "build"} & set(path.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    and path.relative_to(ROOT).parts[:2] not in {("data", "raw"), ("data", "interim")}
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
COMMANDS: dict[str, click.Command] = dict(cli.commands)

OF_USERS = ("series/", "segmentations/", "data/", "parts/", "interim/", "dagster/", "logs/")
"""What lies in a data root, not in the project."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)


def prose(text: str) -> str:
    """Return a document without its blocks of code, in which a `#` is no heading."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> Iterator[str]:
    """Yield the targets of links and pictures that lead to files of the project."""
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", prose(text)):
        if not "".join(target).startswith(("http://", "https://", "mailto:")):
            yield "".join(target)


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document: Path) -> None:
    for link in links(document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_document
def test_every_module_and_folder_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?|[a-z_]+\.py)`", text):
        if name.startswith(OF_USERS):
            continue
        places = (ROOT, ROOT / "aneurysm_assets", document.parent)
        assert any((place / name).exists() for place in places), name
    for name in re.findall(r"\baneurysm_assets(?:\.[a-z_]+)+", text):
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").exists() or path.is_dir(), name


def test_the_list_of_folders_is_that_of_the_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## The folders")[1].split("## ")[0]
    package = ROOT / "aneurysm_assets"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert [name for name in sorted(folders | modules) if f"`{name}`" not in section] == []


@each_document
def test_every_command_and_option_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    if document.name == "CHANGELOG.md":
        text = text.split("## [0.1.0]")[0]
    for command, rest in re.findall(r"\baneurysm-assets ([a-z]+)\b([^\n`]*)", text):
        assert command in COMMANDS, command
        given = re.split(r"[|#&;)]", rest.replace(r"\|", ""))[0]
        options = {name for each in COMMANDS[command].params for name in each.opts}
        for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", given):
            assert option in options | {"--help"}, f"{command} {option}"


def test_every_command_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        assert f"`aneurysm-assets {name} " in text, name
        for parameter in command.params:
            options = parameter.opts if isinstance(parameter, click.Option) else []
            assert not options or any(f"{option}" in text for option in options), parameter


@each_document
def test_every_target_of_make_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert {"".join(name) for name in named} <= targets


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
