"""The package as a whole: a light import, a known public API, docstrings with examples."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version
from typing_extensions import is_typeddict

import goctconv
from markdown_blocks import ROOT
from public_names import PACKAGES, SOURCE, public_api, public_names

PACKAGE = SOURCE / "goctconv"
API = ROOT / "tests" / "public_api.txt"


HEAVY = {"torch", "timm", "torchvision", "numpy", "PIL", "matplotlib", "safetensors", "huggingface_hub"}
TYPED = """\
import goctconv

reveal_type(goctconv.GOctConv)
reveal_type(goctconv.create_model("csnet_x1"))
reveal_type(goctconv.saliency.predict)
goctconv.no_such_name
"""


def run_python(code: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr.strip()


def test_a_fresh_import_is_silent_and_light() -> None:
    code = f"import goctconv, sys; dir(goctconv); sys.exit(', '.join({HEAVY} & set(sys.modules)) or 0)"
    assert run_python(code) == (0, "", "")


def test_packages_are_attributes_that_load_when_they_are_used() -> None:
    unused = HEAVY - {"torch", "numpy"}
    code = f"import goctconv, sys; goctconv.layers; sys.exit(', '.join({unused} & set(sys.modules)) or 0)"
    assert run_python(code) == (0, "", "")


def test_the_table_of_lazy_names_is_complete() -> None:
    namespace: dict[str, object] = {}
    exec("from goctconv import *", namespace)  # noqa: S102  # our own package
    modules = [name for name in goctconv.__all__ if isinstance(namespace[name], ModuleType)]
    assert set(goctconv.__all__) == {*public_names("goctconv"), *modules}
    assert all(namespace[name] is getattr(goctconv, name) for name in goctconv.__all__)
    subpackages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert set(modules) == {name for name in subpackages if f"goctconv.{name}" in PACKAGES}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'goctconv' has no attribute 'GOctConf'"):
        _ = goctconv.GOctConf


@pytest.mark.slow
def test_type_checkers_see_the_names(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    file = tmp_path / "names.py"
    file.write_text(TYPED, encoding="utf-8")
    out, _, _ = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), "--follow-imports=silent", str(file)])
    told = [line.partition(": ")[2] for line in out.splitlines()]
    assert any("GOctConv" in line for line in told), out
    assert any("Module" in line for line in told), out
    assert any("def (" in line and "predict" not in line for line in told), out
    assert [line for line in told if line.startswith("error")] == [
        'error: Module has no attribute "no_such_name"  [attr-defined]'
    ]


def test_the_public_api_is_the_committed_one() -> None:
    """Where this fails on purpose, change the file too: it is the list that users rely on."""
    assert list(public_api()) == API.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in public_names(package) if not hasattr(module, name) or name not in dir(module)] == []


def needs_example(thing: object) -> bool:
    if inspect.isclass(thing):
        return not issubclass(thing, Exception) and not is_typeddict(thing)
    return inspect.isfunction(thing)


def with_examples() -> dict[str, object]:
    return {full: thing for full, thing in public_api().items() if needs_example(thing)}


def test_what_needs_an_example_is_found() -> None:
    assert {"goctconv.GOctConv", "goctconv.create_model", "goctconv.models.CSNet"} <= set(with_examples())


@pytest.mark.parametrize("full", with_examples())
def test_docstrings_have_an_example(full: str) -> None:
    documentation = inspect.getdoc(with_examples()[full]) or ""
    _, heading, example = documentation.partition("\nExample:\n")
    assert heading, f"{full} has no section Example:"
    assert ">>>" in example


@pytest.mark.parametrize("full", [f for f in public_api() if not f.endswith(("__version__", "Features", "Channels"))])
def test_public_names_have_a_docstring(full: str) -> None:
    assert inspect.getdoc(public_api()[full])


def test_the_version_is_valid() -> None:
    assert str(Version(goctconv.__version__)) == goctconv.__version__
