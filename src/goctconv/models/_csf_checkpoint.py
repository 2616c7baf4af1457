"""CSF's weights in the authors' layout, and the widths that only a checkpoint's tensors know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ._backbone_checkpoint import BackboneLayout
from ._checkpoints import StateDict
from ._csf_channels import DILATIONS
from ._published import PUBLISHED_LICENSE, Published, fusion_head, head_widths, prediction_layer

_AUTHORS = re.compile(r"base\.|fuse\.conv\.|fuse\.bns\.|ms\.convs\.|fuse1x1\.|cls_layer\.")


def is_published_layout(state: StateDict) -> bool:
    """Whether a state dict has the authors' key names."""
    return any(_AUTHORS.match(key) for key in state)


def published_layout(model: Any) -> Iterator[Published]:
    """Yield where every tensor of the model lies in the authors' checkpoint."""
    for name, tensor in model.backbone.state_dict().items():
        yield Published(f"backbone.{name}", f"base.{name}", tuple(tensor.shape))
    if model.pyramid is not None:  # no such thing was published; it keeps its name
        for name, tensor in model.pyramid.state_dict().items():
            yield Published(f"pyramid.{name}", f"pyramid.{name}", tuple(tensor.shape))
    yield from fusion_head(model.head, "head", "", "weights")
    yield from prediction_layer(model.classifier)


LAYOUT = BackboneLayout(
    matches=is_published_layout,
    places=lambda model, _: list(published_layout(model)),
    ignored=re.compile(r"^base\.(fc|classifier|head)\."),
    predictions=("classifier.",),
    license=PUBLISHED_LICENSE,
)
from_published = LAYOUT.converted
RELEASED_LICENSE = LAYOUT.license


def widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return the arguments ``channels`` and ``norm`` of the CSF that a state dict comes from.

    Both layouts are read; None if the tensors do not tell.
    """
    channels = head_widths(state, "", branches=len(DILATIONS))
    if channels is None:
        return None
    by_batch = any(re.match(r"(head\.norm1|fuse\.bns)\.\d\.running_mean", key) for key in state)
    return {"channels": channels, "norm": "batch" if by_batch else "group"}
