"""Rules for convolutions, and for modules that treat every channel by itself and hold numbers for it."""

from __future__ import annotations

import math

from torch import fx, nn

from ..._torch import BatchNorm, called_plainly
from .._per_scale import PerScale
from ._choices import Scales
from ._geometry import Geometry
from ._layers import SplitChannels, StridedGOctConv
from ._parts import Conv, Indices, channels_of, path
from ._rewriter import Rewriter
from ._trace import SHAPE

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORMS = (BatchNorm, nn.InstanceNorm2d, nn.PReLU)


def convolution(rewriter: Rewriter, node: fx.Node) -> Scales | fx.Node | None:
    """Give outputs at all scales, but where one pixel is left, or the outputs are the network's."""
    conv, name = rewriter.module(node), str(node.target)
    if not isinstance(conv, CONVOLUTIONS) or not _converts(rewriter, node, conv):
        return None
    given = rewriter.scales(node.args[0])
    is_plain = name in rewriter.choices.fine
    if is_plain and (given is None or conv.groups > 1):
        return None
    if conv.groups > 1:
        return _grouped(rewriter, node, conv, given)
    inputs = given.channels if given else (tuple(range(conv.in_channels)),)
    outputs: tuple[Indices, ...] = (tuple(range(conv.out_channels)),)
    if not is_plain:
        outputs = rewriter.choices.split(conv.out_channels, rewriter.choices.multiples.get(name, 1))
    result = _called(rewriter, node, conv, given, (inputs, outputs), is_plain=is_plain)
    return result if is_plain else rewriter.parts(result, outputs, frozenset([name]))


def _converts(rewriter: Rewriter, node: fx.Node, conv: Conv) -> bool:
    """Whether a convolution can be converted: a plain one, of more than a pixel, that does not grow its input."""
    shape = node.meta.get(SHAPE, ())
    is_usual = type(conv) in CONVOLUTIONS and _is_usual(rewriter, node, conv)
    if not is_usual or rewriter.choices.keeps(str(node.target)) or len(shape) != 4 or shape[2] * shape[3] == 1:
        return False
    geometry = Geometry(conv)
    grows = any(2 * p > reach for p, reach in zip(geometry.padding, geometry.reach, strict=True))
    return isinstance(conv, nn.ConvTranspose2d) or not grows


def _is_usual(rewriter: Rewriter, node: fx.Node, module: nn.Module) -> bool:
    """Whether a module is called with one argument, has no hooks, and shares no parameter."""
    return len(node.args) == 1 and not node.kwargs and called_plainly(module) and module not in rewriter.tied


def _called(
    rewriter: Rewriter,
    node: fx.Node,
    conv: Conv,
    given: Scales | None,
    channels: tuple[tuple[Indices, ...], tuple[Indices, ...]],
    *,
    is_plain: bool = False,
) -> fx.Node:
    """Return a call of the layer with all paths; those of a grouped convolution stay at their scale."""
    inputs, outputs = channels
    choices = rewriter.choices

    def make() -> nn.Module:
        present = [scale for scale, width in enumerate(inputs) if width]
        paths: dict[str, Conv] = {}
        for target, rows in enumerate(outputs):
            sources = [target] if conv.groups > 1 else present
            carrier = max((s for s in sources if s <= target), default=min(sources))  # the nearest not to be enlarged
            for source in sources if rows else ():
                has_bias = conv.bias is not None and source == carrier
                paths[f"{source}_to_{target}"] = path(conv, inputs[source], rows, has_bias=has_bias)
        widths = tuple(map(len, inputs)) if given else len(inputs[0])
        results = len(outputs[0]) if is_plain else tuple(map(len, outputs))
        return StridedGOctConv(paths, widths, results, choices.downsample, choices.upsample)

    rewriter.converted.append(str(node.target))
    value = given.parts if given else rewriter.plain(node.all_input_nodes[0])
    return rewriter.replace(node, (channels, given is None, is_plain), make, value)


def _grouped(rewriter: Rewriter, node: fx.Node, conv: Conv, given: Scales | None) -> Scales:
    """Keep every group at the scale of its inputs."""
    choices, name = rewriter.choices, str(node.target)
    size, results = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    multiple = choices.multiples.get(name, 1)
    multiple //= math.gcd(multiple, results)  # of groups
    groups = _groups(given.channels, size) if given else None
    if given and (groups is None or multiple > 1):
        choices.refine(given.sources, size * multiple)
    if given is None or groups is None:  # by pooling, as groups that lie at several scales cannot be kept together
        groups = choices.split(conv.groups, multiple)
        channels = _channels(groups, size)
        splitting = SplitChannels([len(part) for part in channels], choices.downsample)
        parts = rewriter.call(node, splitting, rewriter.plain(node.all_input_nodes[0]))
        given = rewriter.parts(parts, channels, frozenset())
    outputs = _channels(groups, results)
    called = _called(rewriter, node, conv, given, (given.channels, outputs))
    return rewriter.parts(called, outputs, frozenset([name]))


def _channels(groups: tuple[Indices, ...], size: int) -> tuple[Indices, ...]:
    return tuple(tuple(group * size + place for group in part for place in range(size)) for part in groups)


def _groups(channels: tuple[Indices, ...], size: int) -> tuple[Indices, ...] | None:
    """Return which groups of channels each scale holds; None if it does not hold them whole and in order."""
    groups = tuple(tuple(channel // size for channel in part[::size]) for part in channels)
    return groups if _channels(groups, size) == channels else None


def normalization(rewriter: Rewriter, node: fx.Node) -> Scales | None:
    """Give every scale a module with the numbers of its channels."""
    module, given = rewriter.module(node), rewriter.scales(node.args[0])
    if given is None or not _is_usual(rewriter, node, module) or rewriter.choices.keeps(str(node.target)):
        return None
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return rewriter.each(node, given)
    width = sum(given.widths)

    def make() -> nn.Module:
        modules = iter([channels_of(module, part, width) for part in given.channels if part])
        return PerScale(lambda _: next(modules), given.widths)

    called = rewriter.replace(node, given.channels, make, given.parts)
    return rewriter.parts(called, given.channels, given.sources)
