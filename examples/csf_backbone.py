"""A saliency network on a backbone of timm: train it with dynamic weight decay, remove channels, save it, reload it.

The pictures are made up: bright discs on noise, and the mask is the disc. The backbone is a tiny one; any of timm's
that gives features will do, with the weights that timm has for it where ``--pretrained`` may download them:

    python examples/csf_backbone.py --backbone convnext_nano --pretrained --steps 300
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

import goctconv
from goctconv import DynamicWeightDecay, create_model, prune_channels, save_pruned

SIZE = 64


def make_batch(count: int) -> tuple[Tensor, Tensor]:
    """Return pictures (B, 3, 64, 64) and masks (B, 1, 64, 64)."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    centres = torch.randint(16, SIZE - 16, (count, 2, 1, 1))
    radii = torch.randint(8, 16, (count, 1, 1))
    masks = ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < radii**2).float().unsqueeze(1)
    return torch.randn(count, 3, SIZE, SIZE) * 0.5 + 2 * masks * torch.rand(count, 3, 1, 1), masks


@torch.inference_mode()
def error(model: nn.Module, pictures: Tensor, masks: Tensor) -> float:
    """Return the mean absolute error of the maps."""
    return float((model.eval()(pictures).sigmoid() - masks).abs().mean())


def main() -> None:
    """Train, prune, save and reload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="test_resnet", help="one of timm's networks (default: %(default)s)")
    parser.add_argument("--pretrained", action="store_true", help="download the backbone's weights")
    parser.add_argument("--steps", type=int, default=60, help="training steps (default: %(default)s)")
    parser.add_argument("--ratio", type=float, default=0.3, help="share of channels to mask (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # work this small gains nothing from a second thread

    # BatchNorm in the head, so that its channels can fade and be removed as well as the backbone's.
    model = create_model("csf", backbone=args.backbone, pretrained_backbone=args.pretrained, norm="batch")
    pictures, masks = make_batch(32)
    print(f"{args.backbone}: mean absolute error {error(model, pictures, masks):.3f} before training")

    optimizer = DynamicWeightDecay(torch.optim.Adam(model.parameters(), 3e-3), model, weight_decay=3.0)
    model.train()
    for _ in range(args.steps):
        batch, target = make_batch(8)
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(batch), target).backward()
        optimizer.step()
    optimizer.remove()
    print(f"mean absolute error {error(model, pictures, masks):.3f} after {args.steps} steps")

    result = prune_channels(model, torch.zeros(1, 3, SIZE, SIZE), ratio=args.ratio)
    slim = result.model
    print(f"{result.report.masked - result.report.held} of {result.report.masked} masked channels removed")
    print(f"mean absolute error {error(slim, pictures, masks):.3f} without them")

    with TemporaryDirectory() as folder:
        save_pruned(result, Path(folder))  # a plan goes along where the backbone lost channels
        again = goctconv.create_model(f"local-dir:{folder}")
    odd = torch.randn(2, 3, 67, 83)
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(odd), slim(odd), rtol=0, atol=0)
    print("saved and loaded again: the same logits")


if __name__ == "__main__":
    main()
