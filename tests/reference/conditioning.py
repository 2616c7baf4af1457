"""Fresh networks whose numbers can be compared: BatchNorm calibrated, rounding not amplified."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def calibrated(model: nn.Module, batch: Tensor) -> nn.Module:
    """Return the model in eval mode, its BatchNorm statistics those of one batch.

    Slopes of PReLU near 1 keep a deep random network nearly linear: with 0.25, one of 54 layers amplifies a rounding
    error about 800-fold, and bfloat16 could not be told from noise.
    """
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            module.weight.uniform_(0.7, 0.95)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
