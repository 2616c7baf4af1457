"""The modules of the package and their imports, read from the source; deferred and TYPE_CHECKING imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from public_names import SOURCE

PACKAGE = SOURCE / "goctconv"


def name_of(file: Path) -> str:
    """Return a file's module name: ``goctconv.layers._prelu``, or ``goctconv.layers`` of its ``__init__``."""
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
"""Every module by its name."""

TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}
"""Their syntax trees."""


class Import(NamedTuple):
    """One imported thing.

    Attributes:
        importer: The module that imports.
        line: Where it does.
        module: The module that is imported, or imported from.
        name: What is imported from it; empty for the module itself.
        is_for_types: Whether it stands under ``if TYPE_CHECKING``.
    """

    importer: str
    line: int
    module: str
    name: str = ""
    is_for_types: bool = False

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module} {self.name}".rstrip()

    @property
    def is_own(self) -> bool:
        """Whether a module of this package is imported."""
        return self.module in FILES


def part(module: str) -> str:
    """Return the top-level part that a module belongs to; empty for the package itself."""
    return [*module.split("."), ""][1]


def is_package(module: str) -> bool:
    return FILES[module].name == "__init__.py"


def imports_of(module: str) -> Iterator[Import]:
    """Yield every import of a module, wherever it stands."""
    checks = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.If) and is_type_checking(node.test)]
    for_types = {id(node) for check in checks for node in ast.walk(check)}
    for node in ast.walk(TREES[module]):
        is_for_types = id(node) in for_types
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name, "", is_for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of(node, module)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(module, node.lineno, *((full, "") if full in FILES else (base, alias.name)), is_for_types)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and not str(name.value).startswith("."):
                yield Import(module, node.lineno, str(name.value))


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test).endswith("TYPE_CHECKING")


def base_of(node: ast.ImportFrom, module: str) -> str:
    """Return the absolute name of the module that names are imported from."""
    if not node.level:
        return str(node.module)
    package = module.split(".")
    levels = node.level - is_package(module)
    return ".".join([*package[: len(package) - levels], *([node.module] if node.module else [])])


IMPORTS = [found for module in FILES for found in imports_of(module)]
