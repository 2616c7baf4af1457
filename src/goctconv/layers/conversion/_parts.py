"""Parts of convolutions and of modules that treat every channel by itself."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from ..._torch import buffers_of, parameters_of

Conv: TypeAlias = nn.Conv2d | nn.ConvTranspose2d
Indices: TypeAlias = tuple[int, ...]
"""Channels of the original that a part holds."""


def path(conv: Conv, inputs: Indices, outputs: Indices, *, has_bias: bool) -> Conv:
    """Return the part of a convolution between some of its inputs and outputs; of a grouped one, of whole groups."""
    is_transposed = isinstance(conv, nn.ConvTranspose2d)
    rows, columns = (
        torch.tensor(inputs if is_transposed else outputs),
        torch.tensor(outputs if is_transposed else inputs),
    )
    weight = conv.weight.detach()[rows.to(conv.weight.device)]
    groups = max(len(inputs) * conv.groups // conv.in_channels, 1)
    if conv.groups == 1:
        weight = weight[:, columns.to(weight.device)]
    options = {"output_padding": conv.output_padding} if is_transposed else {}
    kind: Any = type(conv)
    part: Conv = kind(
        len(inputs),
        len(outputs),
        conv.kernel_size,
        conv.stride,
        conv.padding,
        dilation=conv.dilation,
        groups=groups,
        bias=has_bias,
        padding_mode=conv.padding_mode,
        device="meta",
        **options,
    )
    part.weight = nn.Parameter(weight.contiguous(), conv.weight.requires_grad)
    if has_bias and conv.bias is not None:
        bias = conv.bias.detach()[torch.tensor(outputs, device=weight.device)]
        part.bias = nn.Parameter(bias, conv.bias.requires_grad)
    return part.train(conv.training)


def channels_of(module: nn.Module, channels: Indices, width: int) -> nn.Module:
    """Return a module that treats every channel by itself, such as BatchNorm, for some of its channels."""
    part = copy.deepcopy(module)
    index = torch.tensor(channels)
    for place in part.modules():
        for store in (parameters_of(place), buffers_of(place)):
            for name, tensor in store.items():
                if tensor is not None and tensor.dim() and len(tensor) == width:
                    cut = tensor.detach()[index.to(tensor.device)].clone()
                    new: Any = nn.Parameter(cut, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else cut
                    cast("dict[str, Any]", store)[name] = new
        for attribute in ("num_features", "num_parameters"):
            if vars(place).get(attribute) == width:
                setattr(place, attribute, len(channels))
    return part
