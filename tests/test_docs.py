"""The documentation is true: its Python runs, its reference is complete, its links lead somewhere."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

import pytest

from markdown_blocks import ROOT, blocks
from public_names import PACKAGES, public_names

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
OTHER_PAGES = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)  # consent would start a download
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        source = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
        exec(compile(source, str(page), "exec", dont_inherit=True), namespace)  # noqa: S102  # our own documentation


def test_pages_with_python_are_found() -> None:
    names = {name_of(page) for page in WITH_PYTHON}
    assert {"README.md", "docs/tutorial/own-network.md", "docs/how-to/load-weights.md"} <= names


@functools.cache
def documented() -> dict[str, object]:
    """What the directives of the reference name, by full name."""
    found: dict[str, object] = {}
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = ""
        for directive, name in re.findall(r"^\.\. ([\w:]+):: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            if directive == "currentmodule":
                module = name
            elif directive.startswith("auto") or directive == "py:data":
                full = name if name.startswith("goctconv.") else f"{module}.{name}"
                found[full] = resolve(full)
    return found


def resolve(full: str) -> object:
    package, _, name = full.rpartition(".")
    try:
        return getattr(importlib.import_module(package), name)
    except AttributeError:
        return importlib.import_module(full)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    identities = {id(thing) for thing in documented().values()}
    names = {f"{package}.{name}" for name in public_names(package)} - {"goctconv.__version__"}
    assert names
    missing = [name for name in sorted(names) if name not in documented() and id(resolve(name)) not in identities]
    assert missing == []


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=name_of)
def test_relative_links_lead_to_files(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def rooms() -> list[tuple[str, str]]:
    """The changes and the rooms of the table in CONTRIBUTING.md."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where to change what\n")[2]
    return re.findall(r"^\| (.+?) \| `(\S+)` \| .+ \|$", section.partition("\n## ")[0], re.MULTILINE)


def test_the_table_of_rooms_is_found() -> None:
    assert len(rooms()) == len(dict(rooms())) == 23


@pytest.mark.parametrize(("change", "room"), rooms())
def test_rooms_exist(change: str, room: str) -> None:
    assert (ROOT / room).is_dir() if room.endswith("/") else (ROOT / room).is_file(), change
