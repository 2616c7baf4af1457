"""One forward pass of a masked network, seen operation by operation, and what it tells about channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ._facts import Facts
from ._inputs import tensors_in as tensors_of
from ._lookups import Lookups, Operation, tensors_in
from ._provenance import sourced_attributes
from ._rules import rule_for
from ._shadows import FROZEN, Shadow, along, compressed, uniform

_WEIGHTED = ("conv", "linear")  # their weights are found by name, not by element


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
    """Follows channels through every operation of a forward pass in inference mode."""

    def __init__(self, lookups: Lookups) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        self._lookups = lookups

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and note what it makes of channels."""
        kwargs, t = kwargs or {}, self._lookups
        name = func.overloadpacket.__name__
        is_in_place = name.endswith("_") and not name.endswith("__")
        name = name[:-1] if is_in_place else name
        before = _inputs(t, name, args, kwargs)
        result = func(*args, **kwargs)
        if t.note_derived(name, args, result) or not any(shadow is not None for _, shadow in before):
            return result
        t.note_follower(name, args, [one for one, _ in before])
        known = {id(one): shadow for one, shadow in before}
        op = Operation(name, func, args, kwargs, _by_name(func, args, kwargs), known, result)
        if is_in_place:
            t.forget(result)
        is_understood = _understand(t, op)
        if is_understood:
            t.note_losses(op)
        else:
            _give_up(t, op)
        if is_in_place:
            for shadow in t.shadows.disturb_others(result):
                if not is_understood:
                    t.facts.freeze(compressed(shadow.labels), f"{name} in place on a part ({t.where})")
        return result


def _inputs(
    t: Lookups, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
) -> list[tuple[Tensor, Shadow | None]]:
    """Return the tensors that are put in with their shadows, which an operation in place is about to change."""
    weights = {1, 2} if name.startswith(_WEIGHTED) else set()
    given = [one for index, arg in enumerate(args) if index not in weights for one in tensors_in(arg)]
    if name in {"mul", "div"} and len(args) > 1 and isinstance(args[1], int | float):
        given = [one for one in given if t.stored_as(one) is None or one.dim() < 2]
    return [(one, t.shadow(one)) for one in (*given, *tensors_in(keywords))]


def _understand(t: Lookups, op: Operation) -> bool:
    rule = rule_for(op)
    try:
        return rule is not None and rule(t, op)
    except (RuntimeError, IndexError, TypeError, ValueError):  # an operation of a form that the rule does not expect
        return False


def _by_name(func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    parameters = func._schema.arguments
    defaults = {one.name: one.default_value for one in parameters if one.has_default_value()}
    given = {one.name: value for one, value in zip(parameters, args, strict=False)}
    return {**defaults, **given, **keywords}


def _give_up(t: Lookups, op: Operation) -> None:
    for shadow in op.known.values():
        if shadow is not None:
            t.facts.freeze(compressed(shadow.labels), f"{op.name} ({t.where}) is not understood")
    for labels in t.sources.counted:
        t.facts.freeze(labels, f"{op.name} ({t.where}), which is not understood, is given their number")
    for one in tensors_in(op.result):
        t.shadows.set(one, uniform(one.shape, FROZEN))


def trace(model: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Facts:
    """Run a model in eval mode once, and return what that tells about its channels."""
    t = Lookups(model)
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, a, path=path: _enter(t, path, m, a)))
        handles.append(module.register_forward_hook(lambda *_: _leave(t), always_call=True))
    try:
        with torch.inference_mode(), sourced_attributes(model, t.sources.uses), t.sources, Tracer(t):
            for one in tensors_in((args, keywords)):
                t.shadows.set(one, uniform(one.shape, FROZEN))
            output = model(*args, **keywords)
            for one in tensors_of(output):
                t.note_output(one)
        t.note_uses()
        t.note_padding()
    finally:
        for handle in handles:
            handle.remove()
    return t.facts


def _enter(t: Lookups, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    """Note that a module is called, and the channels that come in if it keeps account of them."""
    t.path.append(path)
    t.sources.uses.is_muted = True  # what is compared here is no part of the model
    if hasattr(module, "resize_channels"):
        given = args[0] if args and isinstance(args[0], tuple | list) else args[:1]
        shadows = [t.shadows.find(one) for one in given if isinstance(one, Tensor)]
        labels = [None if one is None else along(one.labels, 1) for one in shadows]
        empty = torch.zeros(0, dtype=torch.int32)
        t.facts.inputs[path] = [empty if one is None else one for one in labels]
    _mute(t)


def _leave(t: Lookups) -> None:
    if t.path:
        t.path.pop()
    _mute(t)


def _mute(t: Lookups) -> None:
    t.sources.uses.is_muted = bool(t.path) and t.path[-1] in t.facts.inputs
