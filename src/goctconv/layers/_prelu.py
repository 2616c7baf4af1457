"""PReLU whose gradient costs little on a processor."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # the usual name
from torch import Tensor, nn
from torch.overrides import wrap_torch_function

from .._torch import is_placeholder, is_scripting, is_tracing


class PReLU(nn.PReLU):
    """`torch.nn.PReLU`, trained several times as fast on a processor.

    PyTorch's own gradient decides element by element there, and takes a quarter of a training step of CSNet. This one
    computes the same with operations that are vectorised. On other devices, without gradients, in compiled and in
    exported code it is PyTorch's own.

    Args:
        num_parameters: 1, or the number of channels.
        init: Slope of negative values before training.
        device: As in `torch.nn.PReLU`.
        dtype: As in `torch.nn.PReLU`.

    Shape:
        (B, C, ...) to the same.

    Example:
        >>> import torch
        >>> from goctconv import PReLU
        >>> PReLU(2)(torch.tensor([[-1.0, 2.0]]))
        tensor([[-0.2500,  2.0000]], grad_fn=<_SlopesBackward>)
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that PyTorch gives it
        """Return the activation of each element."""
        if is_scripting() or torch.compiler.is_compiling() or not _pays(input, self.weight):
            return F.prelu(input, self.weight)
        return trained_prelu(input, self.weight)


def _pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a gradient will be computed on a processor."""
    if not torch.is_grad_enabled() or is_tracing() or is_placeholder(x):
        return False
    return x.device.type == "cpu" and x.dim() > 1 and (x.requires_grad or weight.requires_grad)


@wrap_torch_function(lambda x, weight: (x, weight))
def trained_prelu(x: Tensor, weight: Tensor) -> Tensor:
    """Return `torch.prelu` with the faster gradient."""
    output: Tensor = _Slopes.apply(x, weight)
    return output


class _Slopes(torch.autograd.Function):
    """Identity above 0, times a slope below."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return F.prelu(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            slope = weight.to(gradient.dtype).view(-1, *[1] * (x.dim() - 2))
            above = torch.ops.aten.threshold_backward(gradient, x, 0)
            of_x = torch.lerp(above, gradient, slope.expand(gradient.shape[1:]))
        if ctx.needs_input_grad[1]:
            parts = gradient * x.clamp_max(0).to(gradient.dtype)
            kept = [0, *range(2, x.dim())] if weight.numel() > 1 else list(range(x.dim()))
            of_weight = parts.sum(kept).view(weight.shape).to(weight.dtype)
        return of_x, of_weight
