"""The package as a whole: a light import, imports that point down, a known public API, docstrings with examples."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.version import Version
from typing_extensions import is_typeddict

import goctconv
from markdown_blocks import ROOT
from public_names import PACKAGES, SOURCE, public_names

PACKAGE = SOURCE / "goctconv"
API = ROOT / "tests" / "public_api.txt"

# Who may import whom: a file imports what has its own rank or a lower one. "" is `import goctconv` itself.
RANKS = {
    "_version": 0,
    "_features": 0,
    "_files": 0,
    "_checks": 0,
    "_torch": 0,
    "graph": 0,
    "layers": 1,
    "optim": 1,
    "pruning": 1,
    "training": 2,
    "models": 2,
    "deployment": 2,
    "saliency": 3,
    "report": 4,
    "": 5,
    "cli": 5,
    "__main__": 6,
}
ROOT_FILE_RANK = 1  # what goctconv/__init__.py loads at once; the rest it loads when asked
ONLY_IN = {"timm": {"models", "cli"}, "PIL": {"saliency", "report", "cli"}, "torchvision": set()}


def test_a_fresh_import_is_silent_and_light() -> None:
    code = "import goctconv, sys; sys.exit(', '.join({'timm', 'torchvision', 'PIL'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", "")


class Import(NamedTuple):
    """An import of a file of the package: of ``module``, as an absolute name."""

    file: Path
    line: int
    module: str
    deferred: bool

    @property
    def part(self) -> str:
        """The part of the package that the file belongs to."""
        return self.file.relative_to(PACKAGE).parts[0].removesuffix(".py")

    @property
    def imported_part(self) -> str:
        """The part of the package that is imported; empty for the package itself."""
        return [*self.module.split("."), ""][1]


def imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    deferred = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in modules_of(node, file):
                yield Import(file, node.lineno, module, id(node) in deferred)


def modules_of(node: ast.Import | ast.ImportFrom, file: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return [str(node.module)]
    package = ("goctconv", *file.relative_to(PACKAGE).parts[:-1])
    base = package[: len(package) - node.level + 1]
    if node.module:
        return [".".join((*base, node.module))]
    return [".".join((*base, alias.name)) for alias in node.names]


IMPORTS = [found for file in sorted(PACKAGE.rglob("*.py")) for found in imports_of(file)]


def test_imports_are_seen() -> None:
    parts = {(found.part, found.imported_part) for found in IMPORTS if found.module.startswith("goctconv")}
    assert {("layers", "_features"), ("models", "layers"), ("__init__", "layers")} <= parts
    assert any(found.module.partition(".")[0] == "timm" for found in IMPORTS)


def test_imports_point_down() -> None:
    def allowed(found: Import) -> bool:
        if found.module.partition(".")[0] != "goctconv" or (found.deferred and found.part == "cli"):
            return True
        rank = ROOT_FILE_RANK if found.part == "__init__" else RANKS[found.part]
        return RANKS[found.imported_part] <= rank

    assert [f"{found.file}:{found.line} imports {found.module}" for found in IMPORTS if not allowed(found)] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_where_they_are_needed(package: str) -> None:
    found = [one for one in IMPORTS if one.module.partition(".")[0] == package and one.part not in ONLY_IN[package]]
    assert [f"{one.file}:{one.line}" for one in found] == []


def every_public_name() -> list[str]:
    return sorted(f"{package}.{name}" for package in PACKAGES for name in public_names(package))


def test_the_public_api_is_the_committed_one() -> None:
    """Where this fails on purpose, change the file too: it is the list that users rely on."""
    assert every_public_name() == API.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("full", every_public_name())
def test_public_names_exist(full: str) -> None:
    package, _, name = full.rpartition(".")
    module = importlib.import_module(package)
    assert getattr(module, name) is not None
    assert name in dir(module)


def needs_example(thing: object) -> bool:
    if inspect.isclass(thing):
        return not issubclass(thing, Exception) and not is_typeddict(thing)
    return inspect.isfunction(thing)


def with_examples() -> dict[str, object]:
    things = {}
    for full in every_public_name():
        package, _, name = full.rpartition(".")
        thing = getattr(importlib.import_module(package), name, None)  # what is missing fails elsewhere
        if needs_example(thing) and not any(thing is other for other in things.values()):
            things[full] = thing
    return things


def test_what_needs_an_example_is_found() -> None:
    assert {"goctconv.GOctConv", "goctconv.create_model", "goctconv.models.CSNet"} <= set(with_examples())


@pytest.mark.parametrize("full", with_examples())
def test_docstrings_have_an_example(full: str) -> None:
    documentation = inspect.getdoc(with_examples()[full]) or ""
    _, heading, example = documentation.partition("\nExample:\n")
    assert heading, f"{full} has no section Example:"
    assert ">>>" in example


@pytest.mark.parametrize(
    "full", [f for f in every_public_name() if not f.endswith(("__version__", "Features", "Channels"))]
)
def test_public_names_have_a_docstring(full: str) -> None:
    package, _, name = full.rpartition(".")
    assert inspect.getdoc(getattr(importlib.import_module(package), name))


def test_the_version_is_valid() -> None:
    assert str(Version(goctconv.__version__)) == goctconv.__version__
