"""Weights in the authors' layouts, of networks on a backbone: taken over strictly, or adapted as timm does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models import adapt_input_conv
from torch import nn

from ._checkpoints import StateDict, check_fit, counters
from ._published import Published, taken_over

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneLayout:
    """How authors name the tensors of a network on a backbone.

    Attributes:
        matches: Whether a state dict has their names.
        places: Where every tensor of a model lies in a state dict.
        ignored: Keys of what no map needs, such as the backbone's classifier.
        predictions: How our names of the prediction layers begin.
        license: Of the weights that they have released; None if they name none.
    """

    matches: Callable[[StateDict], bool]
    places: Callable[[Any, StateDict], Sequence[Published]]
    ignored: re.Pattern[str]
    predictions: tuple[str, ...]
    license: str | None = None

    def converted(
        self,
        state: StateDict,
        model: nn.Module,
        source: str = "the checkpoint",
        *,
        prediction: bool = True,
        in_chans: int | None = None,
    ) -> StateDict:
        """Return the authors' tensors under our names.

        What is ignored, which their own loading tolerates, is told of in the log.

        Args:
            state: Tensors under the authors' names.
            model: The network that they are for.
            source: What they come from, for the error.
            prediction: Whether to convert the prediction layers too.
            in_chans: Channels of the image that the tensors are for; the model's if not given.

        Raises:
            CheckpointError: Tensors are missing, superfluous or of the wrong shape: all listed, under their names.
        """
        ignored = [key for key in state if self.ignored.search(key)]
        if ignored:
            _logger.info("%s: left out %s, which no map needs", source, ", ".join(ignored))
        state = {key: tensor for key, tensor in state.items() if key not in ignored}
        places = list(self.places(model, state))
        if not prediction:
            left = {place.key for place in places if place.name.startswith(self.predictions)}
            places = [place for place in places if place.key not in left]
            state = {key: tensor for key, tensor in state.items() if key not in left}
        if in_chans is not None:
            convs = tuple(f"{conv}.weight" for conv in first_convs(model))
            places = [
                place._replace(shape=(place.shape[0], in_chans, *place.shape[2:])) if place.name in convs else place
                for place in places
            ]
        return taken_over(state, places, model, source)

    def adapted(self, state: StateDict, model: Any) -> StateDict:
        """Return a state dict in our layout for timm, adapted to the channels of the model's image and prediction.

        Raises:
            CheckpointError: It does not fit otherwise.
        """
        convs = [f"{conv}.weight" for conv in first_convs(model)]
        if self.matches(state):
            model.weights_license = self.license
            places = {place.name: place.key for place in self.places(model, state)}
            same = _fits(state.get(places.get("classifier.weight", "")), model.num_classes)
            keys = [places[name] for name in convs if places.get(name) in state]
            in_chans = state[keys[0]].shape[1] if keys else None
            state = self.converted(state, model, prediction=same, in_chans=in_chans)
        else:
            state = self._own(state, model, convs)
        if model.pretrained_cfg.get("first_conv") is None:  # where it is told, timm does this itself
            for name in set(convs) & state.keys():
                if state[name].shape[1] != model.in_chans and state[name].dim() == 4:
                    state[name] = adapt_input_conv(model.in_chans, state[name])
        return state

    def _own(self, state: StateDict, model: Any, convs: Sequence[str]) -> StateDict:
        """Return tensors of our names without those of predictions of another number of channels."""
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for name in set(convs) & state.keys() & expected.keys():
            if state[name].dim() == 4:
                expected[name] = (expected[name][0], state[name].shape[1], *expected[name][2:])
        if not _fits(state.get("classifier.weight"), model.num_classes):
            state = {name: tensor for name, tensor in state.items() if not name.startswith(self.predictions)}
            expected = {name: shape for name, shape in expected.items() if not name.startswith(self.predictions)}
        check_fit(state, expected)
        return {**counters(model), **state}


def _fits(weight: Any, num_classes: int) -> bool:
    return weight is not None and weight.shape[0] == num_classes


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
