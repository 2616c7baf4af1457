"""CSF's weights in the authors' layout, and the widths that only a checkpoint's tensors know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .._fusion_head import head_in, places_of_head, places_of_prediction
from ..backbone import first_convs
from ..hub import PUBLISHED_LICENSE, Layout, Published, StateDict


def _places(model: Any) -> Iterator[Published]:
    """Yield where every tensor of the model lies in the authors' checkpoint."""
    for name, tensor in model.backbone.state_dict().items():
        yield Published(f"backbone.{name}", f"base.{name}", tuple(tensor.shape))
    if model.pyramid is not None:  # no such thing was published; it keeps its name
        for name, tensor in model.pyramid.state_dict().items():
            yield Published(f"pyramid.{name}", f"pyramid.{name}", tuple(tensor.shape))
    yield from places_of_head(model.head, "head", "", "weights")
    yield from places_of_prediction(model.classifier)


def _widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return the arguments ``channels`` and ``norm`` of a state dict in either layout; None if it does not tell."""
    channels = head_in(state, "")
    if channels is None:
        return None
    by_batch = any(re.match(r"(head\.norm1|fuse\.bns)\.\d\.running_mean", key) for key in state)
    return {"channels": channels, "norm": "batch" if by_batch else "group"}


LAYOUT = Layout(
    keys=re.compile(r"base\.|fuse\.conv\.|fuse\.bns\.|ms\.convs\.|fuse1x1\.|cls_layer\."),
    places=lambda model, _: list(_places(model)),
    widths=_widths_in,
    first_convs=first_convs,
    ignored=re.compile(r"^base\.(fc|classifier|head)\."),
    license=PUBLISHED_LICENSE,
)
