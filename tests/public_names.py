"""The public names of the package, read from its source: what its packages re-export."""

from __future__ import annotations

import ast

from markdown_blocks import ROOT

SOURCE = ROOT / "src"
PACKAGES = (
    "goctconv",
    "goctconv.layers",
    "goctconv.models",
    "goctconv.deployment",
    "goctconv.training",
    "goctconv.optim",
    "goctconv.pruning",
    "goctconv.saliency",
    "goctconv.saliency.losses",
    "goctconv.saliency.metrics",
    "goctconv.saliency.transforms",
    "goctconv.report",
    "goctconv.report.plots",
)


def public_names(package: str) -> list[str]:
    """Return the names that a package re-exports (``import a as a``) or loads when they are asked for."""
    file = SOURCE.joinpath(*package.split("."), "__init__.py")
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_LAZY":
            names |= set(ast.literal_eval(node.value))
    return sorted(names)
