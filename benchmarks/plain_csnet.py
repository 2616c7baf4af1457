"""CSNet in its plain form: the baseline that the speed of goctconv's CSNet is measured against.

It is what one writes who reads the paper: one convolution for each path between two scales, weights times 100 in every
pass, `torch.nn.PReLU`, PyTorch's own memory layout. `PlainCSNet` copies the parameters of a CSNet, so that outputs and
gradients can be compared; it shares no code with it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Exchange(nn.Module):
    """A generalised octave convolution: every scale into every scale."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.stride = layer.stride
        self.inputs, self.outputs = layer.in_reductions, layer.out_reductions
        self.present = [width > 0 for width in layer.out_widths]
        self.convs = nn.ModuleDict({name: plain_conv(conv) for name, conv in layer.paths.items()})

    def forward(self, xs: list[Tensor | None]) -> list[Tensor | None]:
        """Sum the paths into every output scale."""
        if self.stride == 2:
            xs = [None if x is None else F.avg_pool2d(x, 2) for x in xs]
        return [self.output(xs, target) if there else None for target, there in enumerate(self.present)]

    def output(self, xs: list[Tensor | None], target: int) -> Tensor:
        """Sum the paths into one output scale."""
        paths = [self.path(x, source, target) for source, x in enumerate(xs) if x is not None]
        total = paths[0]
        for path in paths[1:]:
            total = total + path
        return total

    def path(self, x: Tensor, source: int, target: int) -> Tensor:
        """Bring one input scale to an output scale."""
        before, after = self.inputs[source], self.outputs[target]
        conv = self.convs[f"{source}_to_{target}"]
        if after > before:
            return conv(F.max_pool2d(x, after // before))
        if after < before:
            return F.interpolate(conv(x), scale_factor=before // after, mode="bilinear", align_corners=False)
        return conv(x)


class Times100(nn.Module):
    """A convolution that multiplies its weight by 100 in every pass."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = plain_conv(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        conv = self.conv
        return F.conv2d(x, conv.weight * 100, None, 1, conv.padding, conv.dilation, conv.groups)


class NormActivation(nn.Module):
    """BatchNorm and PReLU of every scale."""

    def __init__(self, norms: Any, activations: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({name: copy.deepcopy(norm) for name, norm in norms.named_children()})
        self.activations = nn.ModuleDict()
        for name, activation in activations.named_children():
            self.activations[name] = nn.PReLU(len(activation.weight))
            self.activations[name].load_state_dict(activation.state_dict())

    def forward(self, xs: list[Tensor | None]) -> list[Tensor | None]:
        """Normalise and activate what is there."""
        return [
            None if x is None else self.activations[str(scale)](self.norms[str(scale)](x)) for scale, x in enumerate(xs)
        ]


class Depthwise(nn.Module):
    """A depthwise convolution of every scale."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleDict({name: Times100(conv) for name, conv in layer.convs.items()})

    def forward(self, xs: list[Tensor | None]) -> list[Tensor | None]:
        """Convolve what is there."""
        return [None if x is None else self.convs[str(scale)](x) for scale, x in enumerate(xs)]


class Dilated(nn.Module):
    """Parallel dilated convolutions of every scale, concatenated."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                scale: nn.ModuleList([Times100(conv) for conv in convs.values()])
                for scale, convs in layer.branches.items()
            }
        )

    def forward(self, xs: list[Tensor | None]) -> list[Tensor | None]:
        """Convolve what is there."""
        return [
            None if x is None else torch.cat([conv(x) for conv in self.branches[str(scale)]], dim=1)
            for scale, x in enumerate(xs)
        ]


class PlainCSNet(nn.Module):
    """A CSNet in its plain form, with copies of the parameters of another one.

    Args:
        model: A `goctconv.models.CSNet`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.ModuleList([self.block(block) for block in stage]) for stage in model.stages])
        head = model.head
        self.fed = model.fuse_stages
        self.head = nn.Sequential(
            Exchange(head.fuse),
            NormActivation(head.norm1, head.act1),
            Dilated(head.dilated),
            NormActivation(head.norm2, head.act2),
            Exchange(head.merge),
            NormActivation(head.norm3, head.act3),
        )
        self.classifier = plain_conv(model.classifier)

    @staticmethod
    def block(block: Any) -> nn.Module:
        """Return an in-layer multi-scale block."""
        return nn.Sequential(
            Exchange(block.conv1),
            NormActivation(block.norm1, block.act1),
            Depthwise(block.conv2),
            NormActivation(block.norm2, block.act2),
            Depthwise(block.conv3),
            NormActivation(block.norm3, block.act3),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the image's size."""
        features: list[Tensor | None] = [image]
        ends = []
        for stage in self.stages:
            for block in stage:
                features = block(features)
            ends.append(features[0])
        (fused,) = self.head([ends[stage] for stage in self.fed])
        return F.interpolate(self.classifier(fused), image.shape[2:], mode="bilinear", align_corners=False)


def plain_conv(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a plain copy of a convolution, in PyTorch's own memory layout."""
    made = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, dilation=conv.dilation,
        groups=conv.groups, bias=conv.bias is not None,
    )  # fmt: skip
    made.load_state_dict({name: value.contiguous() for name, value in conv.state_dict().items()})
    return made
