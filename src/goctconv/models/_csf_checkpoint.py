"""CSF's weights in the authors' layout, and the widths that only a checkpoint's tensors know."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from timm.models import adapt_input_conv
from torch import nn

from ._checkpoints import StateDict, check_fit, counters
from ._csf_channels import DILATIONS
from ._published import PUBLISHED_LICENSE, Published, fusion_head, head_widths, prediction_layer, taken_over

_logger = logging.getLogger(__name__)
_IGNORED = re.compile(r"base\.(fc|classifier|head)\.")  # the backbone's own classifier, which no map needs
_AUTHORS = re.compile(r"base\.|fuse\.conv\.|fuse\.bns\.|ms\.convs\.|fuse1x1\.|cls_layer\.")


def is_published_layout(state: StateDict) -> bool:
    """Whether a state dict has the authors' key names."""
    return any(_AUTHORS.match(key) for key in state)


def from_published(
    state: StateDict,
    model: nn.Module,
    source: str = "the checkpoint",
    *,
    prediction: bool = True,
    in_chans: int | None = None,
) -> StateDict:
    """Return the authors' tensors under our names, their whole weights cut into paths.

    The classifier of the backbone, which their own loading tolerates, is left out and told of in the log.

    Args:
        state: Tensors under the authors' names.
        model: The CSF that they are for.
        source: What they come from, for the error.
        prediction: Whether to convert the prediction layer too.
        in_chans: Channels of the image that the tensors are for; the model's if not given.

    Raises:
        CheckpointError: Tensors are missing, superfluous or of the wrong shape, all listed under the authors' names.
    """
    ignored = [key for key in state if _IGNORED.match(key)]
    if ignored:
        _logger.info("%s: left out %s, the classifier of the backbone", source, ", ".join(ignored))
    places = list(published_layout(model))
    if not prediction:
        places = [place for place in places if not place.key.startswith("cls_layer.")]
        ignored += [key for key in state if key.startswith("cls_layer.")]
    if in_chans is not None:
        convs = tuple(f"{conv}.weight" for conv in first_convs(model))
        places = [
            place._replace(shape=(place.shape[0], in_chans, *place.shape[2:])) if place.name in convs else place
            for place in places
        ]
    state = {key: tensor for key, tensor in state.items() if key not in ignored}
    return taken_over(state, places, model, source)


def first_convs(model: Any) -> list[str]:
    """Return the names of the convolutions that take the image, as far as timm tells them."""
    told = model.backbone_cfg.get("first_conv") or ()
    names = [told] if isinstance(told, str) else list(told)
    modules = dict(model.backbone.named_modules())
    found = []
    for name in names:  # timm's extractor may have renamed the outermost layers, or have put "model." before them
        candidates = (name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}")
        found += [f"backbone.{candidate}" for candidate in candidates if candidate in modules][:1]
    return found


def convert_for_timm(state: StateDict, model: Any) -> StateDict:
    """Return a state dict in our layout for timm, adapted to the channels of the model's image and prediction."""
    convs = [f"{conv}.weight" for conv in first_convs(model)]
    if is_published_layout(state):
        model.weights_license = PUBLISHED_LICENSE
        same = "cls_layer.weight" in state and state["cls_layer.weight"].shape[0] == model.num_classes
        keys = [place.key for place in published_layout(model) if place.name in convs and place.key in state]
        in_chans = state[keys[0]].shape[1] if keys else None
        state = from_published(state, model, prediction=same, in_chans=in_chans)
    else:
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for name in set(convs) & state.keys() & expected.keys():
            if state[name].dim() == 4:
                expected[name] = (expected[name][0], state[name].shape[1], *expected[name][2:])
        same = "classifier.weight" in state and state["classifier.weight"].shape[0] == model.num_classes
        if not same:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
            expected = {name: shape for name, shape in expected.items() if not name.startswith("classifier.")}
        check_fit(state, expected)
        state = {**counters(model), **state}
    if model.pretrained_cfg.get("first_conv") is None:  # where it is told, timm does this itself
        for name in set(convs) & state.keys():
            if state[name].shape[1] != model.in_chans and state[name].dim() == 4:
                state[name] = adapt_input_conv(model.in_chans, state[name])
    return state


def published_layout(model: Any) -> Iterator[Published]:
    """Yield where every tensor of the model lies in the authors' checkpoint."""
    for name, tensor in model.backbone.state_dict().items():
        yield Published(f"backbone.{name}", f"base.{name}", tuple(tensor.shape))
    if model.pyramid is not None:  # no such thing was published; it keeps its name
        for name, tensor in model.pyramid.state_dict().items():
            yield Published(f"pyramid.{name}", f"pyramid.{name}", tuple(tensor.shape))
    yield from fusion_head(model.head, "head", "", "weights")
    yield from prediction_layer(model.classifier)


def widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return the arguments ``channels`` and ``norm`` of the CSF that a state dict comes from.

    Both layouts are read; None if the tensors do not tell.
    """
    channels = head_widths(state, "", branches=len(DILATIONS))
    if channels is None:
        return None
    by_batch = any(re.match(r"(head\.norm1|fuse\.bns)\.\d\.running_mean", key) for key in state)
    return {"channels": channels, "norm": "batch" if by_batch else "group"}
