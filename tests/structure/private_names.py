"""Where private names of torch are used: imported, read as an attribute, or asked for by ``getattr``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import Tensor, nn

from .tree import FILES, IMPORTS, TREES

# Of Python: named tuples document theirs.
PYTHON = {"_asdict", "_fields", "_make", "_replace", "_getframe", "_actions"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name != "_"


# Of torch, even where something of ours has the same name.
TORCH = {name for name in {*dir(Tensor), *dir(nn.Module), *vars(nn.Module())} if is_private(name)}


def own_names() -> set[str]:
    """Return the private names that the package defines itself."""
    found = {part for module in FILES for part in module.split(".")}
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def uses() -> Iterator[tuple[str, int, str]]:
    """Yield module, line and name of every use."""
    for found in IMPORTS:
        names = [*found.module.split("."), found.name]
        if names[0] == "torch" and any(map(is_private, names)):
            yield found.importer, found.line, f"{found.module}.{found.name}".rstrip(".")
    own = own_names()
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute | ast.Call) and (name := _asked(node)) and is_private(name):
                is_own = name in own and (name not in TORCH or _is_of_self(node))
                if not is_own and name not in PYTHON:
                    yield module, node.lineno, name


def _asked(node: ast.Attribute | ast.Call) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if ast.unparse(node.func).rpartition(".")[2] not in {"getattr", "hasattr", "attrgetter"}:
        return ""
    texts = [given.value for given in node.args if isinstance(given, ast.Constant) and isinstance(given.value, str)]
    return texts[0].rpartition(".")[2] if texts else ""


def _is_of_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
