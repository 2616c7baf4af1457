"""Metadata of a model about its channels, as timm's models have it; the output does not depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

from .._torch import ConvNd
from ..graph import modules_by_path

StageShapes: TypeAlias = "dict[str, tuple[int, ...]]"
"""Shapes of outputs by module; that of the model's features under the name of the method."""

_FEATURES = "forward_features"
_INPUTS_OF_HEAD = ("num_features", "head_hidden_size", "in_features")


@contextmanager
def stage_shapes(model: nn.Module) -> Iterator[StageShapes]:
    """Record the shapes of the outputs that metadata describe; the model is one to be thrown away."""
    shapes: StageShapes = {}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[name] = tuple(int(size) for size in output.shape)

    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name in {name for _, name, _ in _entries(model)}
    ]
    features: Any = getattr(model, _FEATURES, None)

    def noted(*args: Any, **keywords: Any) -> Any:
        output = features(*args, **keywords)
        note(_FEATURES, output)
        return output

    if callable(features):
        vars(model)[_FEATURES] = noted
    try:
        yield shapes
    finally:
        vars(model).pop(_FEATURES, None)
        for handle in handles:
            handle.remove()


def new_numbers(
    before: nn.Module, after: nn.Module, shapes: tuple[StageShapes, StageShapes]
) -> dict[str, dict[str, int]]:
    """Return the new metadata of a pruned model, by module and attribute, such as ``feature_info.3.num_chs``.

    The shapes are those that were recorded of both models. One that keeps account of its channels itself needs nothing.
    """
    if hasattr(before, "resize_channels"):
        return {}
    found = _of_head(before, after)
    numbers = [(f"feature_info.{index}.num_chs", name, number) for index, name, number in _entries(before)]
    if isinstance(vars(before).get("num_features"), int):
        numbers.append(("num_features", _FEATURES, vars(before)["num_features"]))
    for attribute, name, number in numbers:
        changed = _changed(number, *(recorded.get(name, ()) for recorded in shapes))
        if changed is not None:
            found.setdefault("", {})[attribute] = changed
    return found


def _changed(number: int, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """Return the new size of a dimension that had a size, and has another one now."""
    if len(before) != len(after):
        return None
    return next((new for old, new in zip(before, after, strict=True) if old == number and new != old), None)


def _entries(model: nn.Module) -> Iterator[tuple[int, str, int]]:
    """Give index, module and number of channels of every stage that a model describes."""
    stages = vars(model).get("feature_info")
    if not isinstance(stages, list):
        return
    modules = modules_by_path(model)
    for index, stage in enumerate(stages):
        if not isinstance(stage, Mapping):
            continue
        name, number = stage.get("module"), stage.get("num_chs")
        if isinstance(name, str) and name in modules and isinstance(number, int):
            yield index, name, number


def _of_head(before: nn.Module, after: nn.Module) -> dict[str, dict[str, int]]:
    """Return the inputs of the classifier where the model, or a module that holds it, has their number."""
    (head, old), (_, new) = _head(before), _head(after)
    if old is None or new is None or old == new:
        return {}
    found: dict[str, dict[str, int]] = {}
    for path, module in modules_by_path(before).items():
        held = [name for name in _INPUTS_OF_HEAD if vars(module).get(name) == old]
        if held and module is not head and any(child is head for child in module.modules()):
            found[path] = dict.fromkeys(held, new)
    return found


def _head(model: nn.Module) -> tuple[Any, int | None]:
    """Return the classifier, and how many channels it takes."""
    get = getattr(model, "get_classifier", None)
    head = get() if callable(get) else None
    if isinstance(head, nn.Linear):
        return head, head.in_features
    return head, head.in_channels if isinstance(head, ConvNd) else None
