"""BatchNorm statistics from data."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..._checks import ArgumentError, ArgumentTypeError
from ..._torch import BatchNorm
from ...graph import evaluating
from ._network import check_model, home


def calibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every BatchNorm to their average over some batches.

    A network of fresh weights cannot be run in eval mode before its running statistics fit them. Only the BatchNorm
    layers are in training mode meanwhile (dropout is off); their momentum and all training flags are
    restored. Where anything fails, the old statistics are restored too.

    Args:
        model: Any network with BatchNorm layers; changed in place.
        batches: Inputs of shape (B, C, H, W), of any device. Each batch counts the same, so make them equally large.

    Raises:
        ArgumentError: ``model`` is no network or has no BatchNorm with running statistics, or ``batches`` is a single
            tensor or empty.

    Example:
        >>> import torch
        >>> from goctconv.saliency import calibrate_batch_norm
        >>> norm = torch.nn.BatchNorm2d(1)
        >>> calibrate_batch_norm(norm, [torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 5.0)])
        >>> norm.running_mean
        tensor([4.])
    """
    check_model(model)
    if isinstance(batches, Tensor):
        raise ArgumentTypeError("batches", batches, "several tensors", "pass a list, [tensor]")
    layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm) and layer.running_mean is not None]
    if not layers:
        raise ArgumentError("model", model, problem="has no BatchNorm layer with running statistics")
    momenta = [layer.momentum for layer in layers]
    statistics = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    done = False
    try:
        with evaluating(model):
            for layer in layers:
                layer.train()
                layer.momentum = None  # the cumulative average
                layer.reset_running_stats()
            done = _run(model, batches) > 0
    finally:
        for layer, momentum, saved in zip(layers, momenta, statistics, strict=True):
            layer.momentum = momentum
            if not done:
                for name, buffer in layer.named_buffers():
                    buffer.copy_(saved[name])
    if not done:
        raise ArgumentError("batches", [], "at least one tensor of shape (B, C, H, W)")


@torch.no_grad()
def _run(model: nn.Module, batches: Iterable[Tensor]) -> int:
    like = home(model)
    count = 0
    for batch in batches:
        if not isinstance(batch, Tensor):
            raise ArgumentTypeError(f"batches[{count}]", batch, "a tensor (B, C, H, W)", "pass preprocess(image)")
        model(batch.to(like))
        count += 1
    return count
