"""Auxiliary heads: what runs in train mode only is followed in a second forward pass, and joins the facts of the first.

The second pass runs containers in train mode, and what is random or learns statistics in eval mode.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._copies import sharing_copy
from ._errors import PruningError
from ._facts import Blocks, Cut, Facts, Follow, Reader, Split
from ._inputs import Call, copied, described
from ._shadows import FIRST
from ._trace import trace
from ._verify import set_mode

_ENLARGEMENTS = (1, 2, 3)  # some heads do not fit on small images


def look(model: nn.Module, call: Call) -> tuple[Facts, list[str]]:
    """Return what forward passes tell of a model's channels, and the modules with parameters that run in no eval mode.

    Raises:
        PruningError: The model does not run on the example inputs.
    """
    copy = sharing_copy(model)
    names = {module: name for name, module in copy.named_modules() if module._parameters}

    def note(module: nn.Module, _: Any) -> None:
        names.pop(module, None)

    handles = [module.register_forward_pre_hook(note) for module in list(names)]
    try:
        facts = trace(copy, *copied(call))
    except Exception as error:
        raise PruningError(
            f"the model does not run on example_inputs of shape {described(call)} ({type(error).__name__}: {error}): "
            "pass what it is called with, of a size that it takes"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    bound = _bound(facts)
    idle = [
        name
        for module, name in names.items()
        if not any((f"{name}.{own}" if name else own) in bound for own in module._parameters)
    ]
    return facts, idle


def look_at_heads(model: nn.Module, call: Call, facts: Facts) -> tuple[Facts, str]:
    """Add to the facts of an eval pass those of auxiliary heads.

    Returns:
        The facts, and why the heads could not be followed; empty if they could.
    """
    problem = ""
    for factor in _ENLARGEMENTS:
        copy = sharing_copy(model)
        set_mode(copy, with_heads=True)
        try:
            second = trace(copy, *copied(_enlarged(call, factor)))
        except Exception as error:  # noqa: BLE001  # whatever a network raises in train mode
            problem = problem or f"{type(error).__name__}: {error}"
        else:
            return (joined(facts, second) if _bound(second) - _bound(facts) else facts), ""
    return facts, problem


def _bound(facts: Facts) -> set[str]:
    return {name for name, _ in facts.rows} | set(facts.elements)


def _enlarged(call: Call, factor: int) -> Call:
    def resized(tensor: Tensor) -> Tensor:
        if factor == 1 or tensor.dim() != 4 or not tensor.is_floating_point():
            return tensor
        return F.interpolate(tensor, scale_factor=float(factor))

    return pytree.tree_map_only(Tensor, resized, call)  # type: ignore[no-any-return]


def joined(first: Facts, second: Facts) -> Facts:
    """Return the facts of two passes of one model; a layer that both have is read as in the first."""
    offset = first.count - FIRST

    def moved(labels: Tensor) -> Tensor:
        return torch.where(labels >= FIRST, labels + offset, labels).to(torch.int32)

    def moved_reader(reader: Reader) -> Reader:
        losses = reader.losses + len(first.losses)
        return replace(reader, labels=moved(reader.labels), outputs=moved(reader.outputs), losses=losses)

    both = Facts(**{**vars(first), "edges": list(first.edges), "rows": dict(first.rows)})
    both.count = first.count + second.count - FIRST
    both.edges += [(moved(a), moved(b)) for a, b in second.edges]
    both.frozen = first.frozen + [(moved(labels), reason) for labels, reason in second.frozen]
    both.readers = first.readers + [moved_reader(one) for one in second.readers if one.weight not in first.uses]
    both.blocks = first.blocks + [Blocks([moved(one) for one in b.labels], b.reason) for b in second.blocks]
    both.cuts = first.cuts + [Cut(moved(cut.labels), cut.source, cut.reason) for cut in second.cuts]
    both.splits = first.splits + [
        Split([moved(piece) for piece in one.pieces], one.source, one.reason) for one in second.splits
    ]
    both.follows = first.follows + [
        Follow(moved(one.labels), moved(one.leader), one.compute, one.reason) for one in second.follows
    ]
    for (name, dimension), labels in second.rows.items():
        both.bind(name, dimension, moved(labels))
    for name, labels in second.elements.items():
        if name in first.elements:
            both.unite(first.elements[name], moved(labels))
    both.elements = {**{name: moved(labels) for name, labels in second.elements.items()}, **first.elements}
    both.norms = _first_of(first.norms, second.norms, lambda norm: replace(norm, labels=moved(norm.labels)))
    both.grouped = _first_of(first.grouped, second.grouped, moved_reader)
    both.depthwise = _first_of(first.depthwise, second.depthwise, moved)
    both.inputs = _first_of(first.inputs, second.inputs, lambda inputs: [moved(one) for one in inputs])
    both.losses = first.losses + [replace(one, labels=moved(one.labels)) for one in second.losses]
    both.uses = {**second.uses, **first.uses}
    return both


def _first_of(first: dict[str, Any], second: dict[str, Any], moved: Any) -> dict[str, Any]:
    return {**{name: moved(one) for name, one in second.items() if name not in first}, **first}
