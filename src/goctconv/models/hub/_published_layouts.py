"""The authors' layouts of checkpoints: where our tensors lie in them, and the widths that tensors tell."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from timm.models import adapt_input_conv
from torch import Tensor, nn

from ...layers import GOctConv
from ._checkpoint_formats import StateDict, check_fit, counters, shapes_of

_logger = logging.getLogger(__name__)
_NOTHING = re.compile(r"(?!)")
_PREDICTIONS = re.compile(r"classifier\.|side_classifiers\.|cls_layer\.|linear\d\.")  # in our names and the authors'


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

    def for_image(self, in_chans: int) -> Published:
        """Return the place of a first convolution for images of another number of channels."""
        block = (self.block[0], slice(0, in_chans)) if self.block else ()
        return self._replace(shape=(self.shape[0], in_chans, *self.shape[2:]), block=block)


@dataclass(frozen=True)
class Layout:
    """How the authors of a network name its tensors."""

    keys: re.Pattern[str]  # matches the beginning of keys that only their files have
    places: Callable[[Any, StateDict], Sequence[Published]]  # of every tensor of a model in a state dict
    widths: Callable[[StateDict], dict[str, Any] | None]  # as arguments; None where tensors of neither layout tell them
    first_convs: Callable[[Any], Sequence[str]]  # our names of the layers that take the image
    ignored: re.Pattern[str] = _NOTHING  # keys of what no map needs, such as the backbone's classifier
    license: str | None = None  # of the weights that they have released

    def matches(self, state: StateDict) -> bool:
        """Whether a state dict has the authors' names."""
        return any(self.keys.match(key) for key in state)

    def converted(
        self,
        state: StateDict,
        model: nn.Module,
        source: str = "the checkpoint",
        *,
        prediction: bool = True,
        in_chans: int | None = None,
    ) -> StateDict:
        """Return the authors' tensors under our names, their whole weights cut into paths.

        What is ignored, which their own loading tolerates, is logged.
        """
        ignored = [key for key in state if self.ignored.search(key)]
        if ignored:
            _logger.info("%s: left out %s, which no map needs", source, ", ".join(ignored))
        places = list(self.places(model, {key: tensor for key, tensor in state.items() if key not in ignored}))
        if not prediction:
            ignored += [key for key in state if _PREDICTIONS.match(key)]
            places = [place for place in places if not _PREDICTIONS.match(place.name)]
        state = {key: tensor for key, tensor in state.items() if key not in ignored}
        if in_chans is not None:
            convs = {f"{conv}.weight" for conv in self.first_convs(model)}
            places = [place.for_image(in_chans) if place.name in convs else place for place in places]
        check_fit(state, {place.key: place.stored_shape for place in places}, f"{source}, in the authors' layout,")
        converted = {
            place.name: state[place.key].t() if place.transposed else state[place.key][place.block]
            for place in places
            if place.key in state
        }
        return {**counters(model), **{name: tensor.contiguous() for name, tensor in converted.items()}}

    def adapted(self, state: StateDict, model: Any) -> StateDict:
        """Return a state dict in our layout for timm, adapted to the channels of the model's image and prediction."""
        convs = [f"{conv}.weight" for conv in self.first_convs(model)]
        if self.matches(state):
            model.weights_license = self.license
            keys = {place.name: place.key for place in self.places(model, state)}
            same = _predicts(state.get(keys.get("classifier.weight", "")), model.num_classes)
            found = [state[keys[name]].shape[1] for name in convs if keys.get(name) in state]
            state = self.converted(state, model, prediction=same, in_chans=found[0] if found else None)
        else:
            state = self._own(state, model, convs)
        if model.pretrained_cfg.get("first_conv") is None:  # where it is told, timm does this itself
            for name in set(convs) & state.keys():
                if state[name].shape[1] != model.in_chans and state[name].dim() == 4:
                    state[name] = adapt_input_conv(model.in_chans, state[name])
        return state

    def _own(self, state: StateDict, model: Any, convs: Sequence[str]) -> StateDict:
        """Return tensors of our names without those of predictions of another number of channels."""
        expected = shapes_of(model)
        for name in set(convs) & state.keys() & expected.keys():
            if state[name].dim() == 4:
                expected[name] = (expected[name][0], state[name].shape[1], *expected[name][2:])
        if not _predicts(state.get("classifier.weight"), model.num_classes):
            state = {name: tensor for name, tensor in state.items() if not _PREDICTIONS.match(name)}
            expected = {name: shape for name, shape in expected.items() if not _PREDICTIONS.match(name)}
        check_fit(state, expected)
        return {**counters(model), **state}


def _predicts(weight: Tensor | None, num_classes: int) -> bool:
    return weight is not None and weight.shape[0] == num_classes


def renamed(module: nn.Module, name: str, key: str) -> Iterator[Published]:
    """Yield the tensors of per-scale children; ``key`` has a place for the scale."""
    for child, shape in shapes_of(module).items():
        scale, rest = child.split(".", 1)
        yield Published(f"{name}.{child}", f"{key.format(scale)}.{rest}", shape)


def moved(module: nn.Module, name: str, key: str) -> Iterator[Published]:
    """Yield the tensors of a module that has another name in the file."""
    for child, shape in shapes_of(module).items():
        yield Published(f"{name}.{child}", f"{key}.{child}", shape)


def paths(conv: GOctConv, name: str, key: str) -> Iterator[Published]:
    """Yield the paths of a layer: blocks [outputs of scale j, inputs of scale i] of one weight."""
    rows = [slice(*ends) for ends in pairwise([0, *accumulate(conv.out_widths)])]
    columns = [slice(*ends) for ends in pairwise([0, *accumulate(conv.in_widths)])]
    shape = (sum(conv.out_widths), sum(conv.in_widths), *conv.kernel_size)
    for path in conv.paths:
        source, target = (int(scale) for scale in path.split("_to_"))
        yield Published(f"{name}.paths.{path}.weight", key, shape, (rows[target], columns[source]))


def nested(state: StateDict, pattern: str) -> dict[int, dict[int, int]]:
    """Return the first dimension of all tensors whose name matches, by the two numbers in the name."""
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for key, tensor in state.items():
        match = re.fullmatch(pattern, key)
        if match and tensor.dim():
            outer, inner = (group for group in match.groups() if group is not None)
            found[int(outer or 0)][int(inner)] = tensor.shape[0]
    return defaultdict(dict, sorted(found.items()))
