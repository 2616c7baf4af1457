"""Remove channels from a ResNet of timm: train it, prune it, train on, save it, and load it again.

The pictures and the training are those of fading_channels.py: dynamic weight decay lets channels fade, and what has
faded is removed here.

    python examples/prune_resnet.py --report removed.html
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from fading_channels import FADED, make_model, train
from own_classifier import SIZE, accuracy, make_batch
from torch import nn

from goctconv import DynamicWeightDecay
from goctconv.pruning import PruningPlan, PruningResult, load_plan, prune_channels
from goctconv.report import pruning_page


def trained(steps: int) -> tuple[nn.Module, DynamicWeightDecay]:
    """Return a network whose channels have been fading, and its optimizer."""
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2, weight_decay=1e-4)
    wrapper = DynamicWeightDecay(optimizer, model, weight_decay=3.0)
    for _ in train(model, wrapper, steps):
        pass
    return model, wrapper


def pruned(model: nn.Module) -> PruningResult:
    """Return the network without the channels that have faded."""
    result = prune_channels(model, torch.zeros(1, 3, SIZE, SIZE), threshold=FADED, latency=True)
    print(result.report)
    return result


@torch.inference_mode()
def compare(masked: nn.Module, slim: nn.Module) -> None:
    """Compare the pruned network with the masked original on new pictures, with other sizes too."""
    pictures, _ = make_batch(8)
    for one in (pictures, pictures[..., :27, :19]):
        torch.testing.assert_close(slim(one), masked(one), rtol=1e-4, atol=1e-4)
    print("pruned and masked network: the same logits at 32x32 and 27x19")


@torch.inference_mode()
def reload(folder: Path, slim: nn.Module) -> None:
    """Save plan and weights, and load them into a fresh network."""
    torch.save(slim.state_dict(), folder / "slim.pt")
    again = load_plan(folder / "plan.json").apply(make_model()).eval()
    again.load_state_dict(torch.load(folder / "slim.pt", weights_only=True))
    pictures, _ = make_batch(8)
    torch.testing.assert_close(again(pictures), slim.eval()(pictures), rtol=0, atol=0)
    print("saved and loaded again: the same logits")


def save(plan: PruningPlan, folder: Path) -> None:
    """Write the plan, which has no weights in it."""
    plan.save(folder / "plan.json")


def main() -> None:
    """Train, prune, train on, save and load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="training steps before (default: %(default)s)")
    parser.add_argument("--more", type=int, default=30, help="training steps after (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as a page")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # work this small gains nothing from a second thread, and loses much where cores are busy

    model, optimizer = trained(args.steps)
    before = accuracy(model.eval())
    result = pruned(model)
    slim = result.model.eval()
    compare(result.plan.mask(model), slim)
    if args.report:
        args.report.write_text(pruning_page(result.report), encoding="utf-8")

    moved = result.transfer_optimizer(optimizer)  # its moments cut like the weights
    optimizer.remove()
    print(f"accuracy: {before:.1%} before, {accuracy(slim):.1%} pruned,", end=" ")
    for _ in train(slim, moved, args.more):
        pass
    print(f"{accuracy(slim.eval()):.1%} after {args.more} more steps")
    with TemporaryDirectory() as folder:
        save(result.plan, Path(folder))
        reload(Path(folder), slim)


if __name__ == "__main__":
    main()
