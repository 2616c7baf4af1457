"""An optimizer by its name, with a learning rate of its own for the backbone."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from ._frozen import BACKBONE, has_backbone

OPTIMIZERS = ("adam", "adamw", "sgd", "nesterov")
_MOMENTUM = 0.9


def create_optimizer(
    model: nn.Module,
    kind: str = "adam",
    *,
    lr: float = 1e-4,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    backbone_rate: float = 1.0,
) -> Optimizer:
    """Return an optimizer of a network, whose pretrained backbone may learn more slowly.

    Parameters that are frozen (``requires_grad=False``) are left out.

    Args:
        model: The network. Its backbone is what its attribute ``backbone`` holds.
        kind: "adam"; "adamw", which leaves biases, normalisations and what the model's ``no_weight_decay()`` names
            without weight decay, as is usual with it; "sgd", with momentum of 0.9; "nesterov", with Nesterov's.
        lr: The learning rate.
        weight_decay: Of everything but the scales that decay dynamically.
        betas: Of Adam and AdamW.
        backbone_rate: The backbone learns with this times ``lr``.

    Raises:
        ValueError: There is no such optimizer; a rate that is not above 0; a ``backbone_rate`` other than 1 for a model
            without a backbone.

    Example:
        >>> import goctconv
        >>> from goctconv.training import create_optimizer
        >>> optimizer = create_optimizer(goctconv.create_model("test_csf_resnet"), "adamw", lr=1e-3, backbone_rate=0.1)
        >>> sorted({group["lr"] for group in optimizer.param_groups})
        [0.0001, 0.001]
    """
    if kind not in OPTIMIZERS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(map(repr, OPTIMIZERS))}")
    if not (math.isfinite(backbone_rate) and backbone_rate > 0):
        raise ValueError(
            f"backbone_rate={backbone_rate!r} must be a number above 0; to leave a backbone as it is, set its "
            "parameters' requires_grad to False"
        )
    if backbone_rate != 1 and not has_backbone(model):
        raise ValueError(
            f"backbone_rate={backbone_rate:g} is for a pretrained backbone, and this {type(model).__name__} has no "
            f"attribute {BACKBONE!r}: pass backbone_rate=1"
        )
    groups = _groups(model, lr, backbone_rate, weight_decay, spares=kind == "adamw")
    if kind in {"sgd", "nesterov"}:
        return torch.optim.SGD(groups, lr, momentum=_MOMENTUM, nesterov=kind == "nesterov", weight_decay=weight_decay)
    made = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return made(groups, lr, betas=betas, weight_decay=weight_decay)


def _groups(
    model: nn.Module, lr: float, backbone_rate: float, weight_decay: float, *, spares: bool
) -> list[dict[str, object]]:
    """Return param groups, those that learn at the full rate first; one for all where nothing tells them apart."""
    spared = set(model.no_weight_decay()) if spares and callable(getattr(model, "no_weight_decay", None)) else set()  # type: ignore[operator]
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_slow = backbone_rate != 1 and name.startswith(f"{BACKBONE}.")
            is_spared = spares and (parameter.dim() <= 1 or name in spared)
            groups.setdefault((is_slow, is_spared), []).append(parameter)
    return [
        {
            "params": groups[is_slow, is_spared],
            "lr": lr * backbone_rate if is_slow else lr,
            "weight_decay": 0.0 if is_spared else weight_decay,
        }
        for is_slow, is_spared in sorted(groups)
    ]
