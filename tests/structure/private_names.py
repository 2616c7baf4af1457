"""Where private names of torch are used: imported, read as an attribute, or asked for by ``getattr``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .tree import FILES, IMPORTS, TREES

# Of named tuples, which document them:
NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name != "_"


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
            if (name := _asked(node)) and is_private(name) and name not in own | NAMED_TUPLES:
                yield module, node.lineno, name  # type: ignore[attr-defined]


def _asked(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"getattr", "hasattr", "attrgetter"}:
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return texts[0].rpartition(".")[2] if texts else ""
    return ""
