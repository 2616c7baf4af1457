"""SCFNet's weights in the authors' layout, of PaddlePaddle.

The head's keys are mapped by their names:

=============================  =====================================
theirs                         ours
=============================  =====================================
``mp.cv{1..4}.{0,1}``          ``head.reduce.{0..3}.{conv,norm}``
``cv1.{0,1}``                  ``head.bottleneck.{conv,norm}``
``de{1..3}.cv{1,2,3}.{0,1}``   ``head.fuse.{0..2}.{guide,gate,merge}.{conv,norm}``
``linear2``                    ``classifier``
``linear{3..5}``               ``side_classifiers.{0..2}``
``_mean``, ``_variance``       ``running_mean``, ``running_var``
=============================  =====================================

``map.`` and ``bottleneck.`` stand for ``mp.`` and ``cv1.`` too. All other keys are the backbone's. Where they are those
of timm's network, but for a prefix and the names of statistics, they are mapped by name; else in the order of the file,
which is that of the layers, by kind and shape. PaddlePaddle's linear layers keep their weights transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from ..backbone import first_convs
from ..hub import Layout, Published, StateDict, shapes_of

_HEAD = re.compile(r"(?:mp|map)\.cv\d|(?:cv1|bottleneck)\.[01]\.|de\d\.cv\d|linear\d\.")
_PARTS = ("guide", "gate", "merge")
_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}
# Places that a tensor may stand behind its own in the file: Swin's layers list a norm last that timm lists first.
_AHEAD = 3


def _places(model: Any, state: StateDict) -> list[Published]:
    """Return where every tensor of the model lies in the authors' state dict."""
    shapes = {name: shape for name, shape in shapes_of(model).items() if not name.endswith("num_batches_tracked")}
    keys = {name: key for name, key in _head_keys(model, state) if name in shapes}
    rest = [name for name in shapes if name not in keys]
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    keys.update(_backbone_keys(rest, shapes, state, linear))
    return [Published(name, keys[name], shapes[name], transposed=name in linear) for name in shapes]


def _head_keys(model: Any, state: StateDict) -> Iterator[tuple[str, str]]:
    """Yield our names of the head and the predictions, with the authors'."""
    mapping = "map" if any(key.startswith("map.") for key in state) else "mp"
    bottleneck = "bottleneck" if any(key.startswith("bottleneck.") for key in state) else "cv1"
    levels = len(model.head.reduce)
    layers = [(f"head.reduce.{level}", f"{mapping}.cv{level + 1}") for level in range(levels)]
    layers.append(("head.bottleneck", bottleneck))
    layers += [
        (f"head.fuse.{level}.{part}", f"de{level + 1}.cv{number}")
        for level in range(levels - 1)
        for number, part in enumerate(_PARTS, 1)
    ]
    for name, key in layers:
        for tensor in ("weight", "bias"):
            yield f"{name}.conv.{tensor}", f"{key}.0.{tensor}"
            yield f"{name}.norm.{tensor}", f"{key}.1.{tensor}"
        for theirs, ours in _STATISTICS.items():
            yield f"{name}.norm.{ours}", f"{key}.1.{theirs}"
    predictions = ["classifier", *(f"side_classifiers.{level}" for level in range(levels - 1))]
    for number, name in enumerate(predictions, 2):
        for tensor in ("weight", "bias"):
            yield f"{name}.{tensor}", f"linear{number}.{tensor}"


def _backbone_keys(
    names: Sequence[str], shapes: dict[str, tuple[int, ...]], state: StateDict, linear: set[str]
) -> dict[str, str]:
    """Return our names of the backbone's tensors, with the authors'."""
    theirs = [key for key in state if not _HEAD.match(key)]
    by_name = {_our_ending(_without_prefix(key, theirs)): key for key in theirs}
    if all(_bare(name) in by_name for name in names):
        return {name: by_name[_bare(name)] for name in names}
    left = list(theirs)
    found = {}
    for name in names:
        shape = shapes[name][::-1] if name in linear else shapes[name]
        kind = name.rpartition(".")[2]
        near = (key for key in left[: _AHEAD + 1] if _our_ending(key).rpartition(".")[2] == kind)
        key = next((key for key in near if tuple(state[key].shape) == shape), None)
        if key is not None:
            left.remove(key)
        found[name] = key or name  # which is then told to be missing
    return found


def _bare(name: str) -> str:
    return name.removeprefix("backbone.").removeprefix("model.").removeprefix("final_")


def _without_prefix(key: str, keys: Sequence[str]) -> str:
    """Return a key without the part that all begin with."""
    first = key.partition(".")[0]
    return key.partition(".")[2] if all(other.startswith(f"{first}.") for other in keys) else key


def _our_ending(key: str) -> str:
    before, dot, last = key.rpartition(".")
    return f"{before}{dot}{_STATISTICS.get(last, last)}"


def _widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return the argument ``width`` of the SCFNet that a state dict comes from; None if its tensors do not tell."""
    for key in ("head.bottleneck.conv.weight", "cv1.0.weight", "bottleneck.0.weight"):
        if key in state and state[key].dim() == 4:
            return {"width": int(state[key].shape[0])}
    return None


LAYOUT = Layout(
    keys=re.compile(r"(?:mp|map)\.cv1\.0\.|de1\.cv1\.0\.|linear2\."),
    places=_places,
    widths=_widths_in,
    first_convs=first_convs,
    ignored=re.compile(
        r"(^|\.)(fc|head|classifier|StructuredToParameterName@@)(\.|$)|relative_position_index$|attn_mask$"
    ),
)
