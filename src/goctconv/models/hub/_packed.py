"""Weights that come with the package: a state dict in two long tensors, as a header of all names is long too."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from ._checkpoint_formats import StateDict

FOLDER = Path(__file__).parent.parent / "weights"
_NAMES = "names"
_TYPES = {"float16": torch.float16, "float32": torch.float32}


def pack(state: StateDict, file: Path, halved: Iterable[str]) -> None:
    """Write a state dict: in float16 what is named, in float32 all other numbers, integers not at all."""
    own = set(halved)
    parts: dict[str, list[Tensor]] = {kind: [] for kind in _TYPES}
    layout: dict[str, list[tuple[str, list[int]]]] = {kind: [] for kind in _TYPES}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            kind = "float16" if name in own else "float32"
            parts[kind].append(tensor.detach().cpu().to(_TYPES[kind]).flatten())
            layout[kind].append((name, list(tensor.shape)))
    names = base64.b64encode(zlib.compress(json.dumps(layout, separators=(",", ":")).encode(), 9)).decode()
    safetensors.torch.save_file({kind: torch.cat(own) for kind, own in parts.items() if own}, file, {_NAMES: names})


def unpack(file: Path) -> StateDict:
    """Return the float32 tensors that `pack` wrote."""
    with safe_open(file, "pt") as stored:
        layout = json.loads(zlib.decompress(base64.b64decode(stored.metadata()[_NAMES])))
        found: StateDict = {}
        for kind, named in layout.items():
            sizes = [math.prod(shape) for _, shape in named]
            pieces = stored.get_tensor(kind).float().split(sizes) if named else ()
            found.update((name, piece.reshape(shape)) for (name, shape), piece in zip(named, pieces, strict=True))
    norms = [name.removesuffix("running_mean") for name in found if name.endswith("running_mean")]
    return {**found, **{f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}}
