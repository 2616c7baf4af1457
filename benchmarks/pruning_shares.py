"""Print how many of the masked channels can be removed exactly, by architecture.

The networks are untrained: γ = ±U(0.05, 1.35), β ~ N(0, 0.3), running statistics from one pass. Masked are the 30 % of
channels with the smallest score: abs(γ) of each channel on its own, or its mean over the channels that are summed,
gated or convolved depthwise together.
"""

from __future__ import annotations

import argparse

import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from goctconv import plan_pruning

NETWORKS = (
    "vgg11_bn",
    "resnet18",
    "resnet50",
    "densenet121",
    "efficientnet_lite0",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "ghostnet_050",
    "res2net50_14w_8s",
    "hrnet_w18_small",
)
RATIO = 0.3
SIZE = 128
HEADER = ("network", "masked channels", "each on its own: β kept", "β zeroed", "groups: β kept", "β zeroed")


def make_model(name: str) -> nn.Module:
    """Return a network with random γ, β and statistics, the same ones every time."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                sign = torch.randint(2, module.weight.shape) * 2 - 1
                module.weight.copy_(sign * torch.empty_like(module.weight).uniform_(0.05, 1.35))
                module.bias.normal_(0, 0.3)
        model.train()(torch.randn(4, 3, SIZE, SIZE))
    return model.eval()


def row(name: str) -> list[str]:
    """Return a network's cells."""
    model = make_model(name)
    image = torch.zeros(1, 3, SIZE, SIZE)
    cells, masked = [], 0
    for groups in (False, True):
        for bn_bias in ("keep", "zero"):
            plan = plan_pruning(model, image, ratio=RATIO, groups=groups, bn_bias=bn_bias)
            masked = sum(map(len, plan.masked.values()))
            gone = sum(len({*channels} & {*plan.removed.get(layer, ())}) for layer, channels in plan.masked.items())
            cells.append(f"{100 * gone / masked:.0f} %")
    return [name, f"{masked:,}", *cells]


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help="timm names (default: ten)")
    args = parser.parse_args()
    for cells in (HEADER, ["---", *["---:"] * (len(HEADER) - 1)]):
        print("| " + " | ".join(cells) + " |")
    for name in args.networks:
        print("| " + " | ".join(row(name)) + " |", flush=True)


if __name__ == "__main__":
    main()
