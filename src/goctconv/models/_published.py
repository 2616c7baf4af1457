"""What the authors' checkpoints have in common: where our tensors lie in them, and the widths that tensors tell."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from torch import nn

from ..layers import FusionHead, GOctConv
from ._checkpoints import StateDict, check_fit, counters

PUBLISHED_LICENSE = "cc-by-nc-sa-4.0"


class Published(NamedTuple):
    """Where one of our tensors lies in the authors' checkpoint: as a block of a tensor, or transposed."""

    name: str
    key: str
    shape: tuple[int, ...]
    block: tuple[slice, ...] = ()
    transposed: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return self.shape[::-1] if self.transposed else self.shape


def taken_over(state: StateDict, places: Iterable[Published], model: nn.Module, source: str) -> StateDict:
    """Return the authors' tensors under our names, their whole weights cut into paths.

    Raises:
        CheckpointError: Tensors are missing, superfluous or of the wrong shape, all listed under the authors' names.
    """
    places = list(places)
    check_fit(state, {place.key: place.stored_shape for place in places}, f"{source}, in the authors' layout,")
    converted = {
        place.name: state[place.key].t() if place.transposed else state[place.key][place.block]
        for place in places
        if place.key in state
    }
    return {**counters(model), **{name: tensor.contiguous() for name, tensor in converted.items()}}


def fusion_head(head: FusionHead, name: str, prefix: str, weight: str) -> Iterator[Published]:
    """Yield the tensors of a head.

    Args:
        head: Ours.
        name: Its name in our network.
        prefix: What stands before the authors' names.
        weight: What they call a weight of all paths.
    """
    for number, conv, layer in (("1", "fuse", "fuse"), ("3", "merge", "fuse1x1")):
        key = f"{prefix}{layer}"
        yield from paths(getattr(head, conv), f"{name}.{conv}", f"{key}.conv.{weight}")
        yield from renamed(getattr(head, f"norm{number}"), f"{name}.norm{number}", key + ".bns.{}")
        yield from renamed(getattr(head, f"act{number}"), f"{name}.act{number}", key + ".prelus.{}")
    yield from renamed(head.dilated.branches, f"{name}.dilated.branches", prefix + "ms.convs.{}.msconv")
    yield from renamed(head.norm2, f"{name}.norm2", prefix + "ms.convs.{}.bn")
    yield from renamed(head.act2, f"{name}.act2", prefix + "ms.convs.{}.prelu")


def prediction_layer(classifier: nn.Module) -> Iterator[Published]:
    """Yield the tensors of the prediction layer."""
    for name, tensor in classifier.state_dict().items():
        yield Published(f"classifier.{name}", f"cls_layer.{name}", tuple(tensor.shape))


def renamed(module: nn.Module, name: str, key: str) -> Iterator[Published]:
    """Yield the tensors of per-scale children; ``key`` has a place for the scale."""
    for child, tensor in module.state_dict().items():
        scale, rest = child.split(".", 1)
        yield Published(f"{name}.{child}", f"{key.format(scale)}.{rest}", tuple(tensor.shape))


def paths(conv: GOctConv, name: str, key: str) -> Iterator[Published]:
    """Yield the paths of a layer: blocks [outputs of scale j, inputs of scale i] of one weight."""
    rows = [slice(*ends) for ends in pairwise([0, *accumulate(conv.out_widths)])]
    columns = [slice(*ends) for ends in pairwise([0, *accumulate(conv.in_widths)])]
    shape = (sum(conv.out_widths), sum(conv.in_widths), *conv.kernel_size)
    for path in conv.paths:
        source, target = (int(scale) for scale in path.split("_to_"))
        yield Published(f"{name}.paths.{path}.weight", key, shape, (rows[target], columns[source]))


def head_widths(state: StateDict, prefix: str, *, branches: int, scales: int | None = None) -> dict[str, Any] | None:
    """Return the widths of a head in either layout; None if the tensors do not tell.

    Args:
        state: Tensors under the authors' names or ours.
        prefix: What stands before the authors' names.
        branches: Dilations of a scale.
        scales: What the head fuses; as many as the tensors name if not given.
    """
    before = re.escape(prefix)
    fuse = nested(state, rf"(){before}fuse\.bns\.(\d)\.weight|()head\.norm1\.(\d)\.weight")[0]
    merge = nested(state, rf"(){before}fuse1x1\.bns\.(\d)\.weight|()head\.norm3\.(\d)\.weight")[0]
    dilated = nested(
        state, rf"{before}ms\.convs\.(\d)\.msconv\.(\d)\.weight|head\.dilated\.branches\.(\d)\.(\d)\.weight"
    )
    if scales is None:
        if not (fuse and merge and dilated):
            return None
        scales = max(*fuse, *dilated) + 1
    return {
        "fuse": [fuse.get(scale, 0) for scale in range(scales)],
        "dilated": [[dilated[scale].get(branch, 0) for branch in range(branches)] for scale in range(scales)],
        "fused": merge.get(0, 0),
    }


def nested(state: StateDict, pattern: str) -> dict[int, dict[int, int]]:
    """Return the first dimension of all tensors whose name matches, by the two numbers in the name."""
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for key, tensor in state.items():
        match = re.fullmatch(pattern, key)
        if match and tensor.dim():
            outer, inner = (group for group in match.groups() if group is not None)
            found[int(outer or 0)][int(inner)] = tensor.shape[0]
    return defaultdict(dict, sorted(found.items()))
