"""The public names of the package: what its packages re-export, each object at its shortest path."""

from __future__ import annotations

import ast
import functools
import importlib
from types import ModuleType

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
    "goctconv.study",
)
# Exported for other packages of goctconv, and not for users, who get objects of these types and need not name them.
INTERNAL: frozenset[str] = frozenset(
    {
        "goctconv.deployment.Benchmark",  # what `goctconv bench` measures
        "goctconv.deployment.DeployedModel",  # saliency asks whether a network is deployed already
        "goctconv.deployment.Engine",  # the type of the engines of saliency
        "goctconv.deployment.OnnxEngine",  # runs in saliency
        "goctconv.deployment.OpenVINOEngine",  # runs in saliency
        "goctconv.layers.PLAIN",  # deployment falls back on PyTorch's own convolutions
        "goctconv.layers.Block",  # the base of deployment's blocks
        "goctconv.layers.Kernels",  # the base of deployment's kernels
        "goctconv.layers.ScaleLayer",  # the base of deployment's layers
        "goctconv.layers.ScaledConv2d",  # deployment folds its factor
        "goctconv.optim.find_activations",  # study measures what dynamic weight decay does: the same activations
        "goctconv.optim.global_average_pool",  # and the same M
        "goctconv.report.Picture",  # the type of the pictures in the pages of cli
        "goctconv.saliency.metrics.METRICS",  # those that saliency computes by default
        "goctconv.saliency.metrics.SaliencyScores",  # the type of what report and cli show
        "goctconv.training.TrainingRun",  # the type that the callbacks of cli get
    }
)


def public_names(package: str) -> list[str]:
    """Return the names that a package re-exports (``import a as a``), without its subpackages."""
    file = SOURCE.joinpath(*package.split("."), "__init__.py")
    imports = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if type(node) is ast.ImportFrom]
    names = {alias.name for node in imports for alias in node.names if alias.asname == alias.name}
    module = importlib.import_module(package)
    return sorted(
        name
        for name in names
        if f"{package}.{name}" not in INTERNAL and not isinstance(getattr(module, name, None), ModuleType)
    )


@functools.cache
def public_api() -> dict[str, object]:
    """Return every public object once, under its shortest path."""
    full = [f"{package}.{name}" for package in PACKAGES for name in public_names(package)]
    found: dict[int, tuple[str, object]] = {}
    for path in sorted(full, key=lambda path: (path.count("."), path)):
        package, _, name = path.rpartition(".")
        thing = getattr(importlib.import_module(package), name, None)  # what is missing fails in a test of its own
        found.setdefault(id(thing), (path, thing))
    return dict(sorted(found.values()))
