"""Channels that fade: a small ResNet trained with dynamic weight decay, and with ordinary weight decay.

The pictures are those of own_classifier.py: a fine and a coarse grating under noise, four classes. The task is easy,
and the network larger than it needs, so that much of it can go.

    python examples/fading_channels.py --plot fading-channels.png
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from own_classifier import CLASSES, accuracy, make_batch
from torch import Tensor, nn

from goctconv import DynamicWeightDecay

FADED = 1e-3  # in a run as short as this one
RECORDED = 5  # steps from one record of γ to the next


def make_model() -> nn.Module:
    """Return the smallest ResNet of timm; its γ all start at 1, also those that timm likes to start at 0."""
    return timm.create_model("test_resnet", num_classes=CLASSES, zero_init_last=False)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Iterator[int]:
    """Train a model on fresh pictures; yield the number of every step after it is done."""
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps * 7 // 10], 0.1)
    model.train()
    for step in range(1, steps + 1):
        pictures, labels = make_batch(32)
        loss = F.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield step


def gammas(model: nn.Module) -> Tensor:
    """Return γ of all channels."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return torch.cat([norm.weight.detach() for norm in norms])


def with_dynamic_decay(steps: int) -> tuple[nn.Module, Tensor]:
    """Return a trained network, and γ over time."""
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2, weight_decay=1e-4)
    optimizer = DynamicWeightDecay(optimizer, model, weight_decay=3.0, history=RECORDED)
    for step in train(model, optimizer, steps):
        if step % 100 == 0 or step == steps:
            print(f"step {step}: {optimizer.sparsity(FADED)}")
    first = optimizer.metrics()["bn1"]
    print(f"bn1: {first.activation} was read, M from {first.metric.min():.2g} to {first.metric.max():.2g}")
    optimizer.remove()
    return model, optimizer.history.gammas()


def with_ordinary_decay(steps: int) -> tuple[nn.Module, Tensor]:
    """Return the same of a training without dynamic weight decay."""
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2, weight_decay=1e-4)
    recorded = [gammas(model).clone() for step in train(model, optimizer, steps) if step % RECORDED == 0]
    return model, torch.stack(recorded)


@torch.no_grad()
def switch_off(model: nn.Module, threshold: float) -> None:
    """Set faded γ to 0."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight[module.weight.abs() < threshold] = 0


def plot(histories: dict[str, Tensor], file: Path) -> None:
    """Draw abs(γ) of every channel over time."""
    import matplotlib as mpl  # noqa: PLC0415  # the training does not need it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of a backend

    figure, axes = plt.subplots(1, len(histories), figsize=(8, 3.2), sharey=True, layout="constrained")
    for axis, (title, history) in zip(axes, histories.items(), strict=True):
        steps = torch.arange(1, len(history) + 1) * RECORDED
        axis.semilogy(steps, history.abs().clamp(min=1e-7), color="tab:blue", alpha=0.12, linewidth=0.6)
        axis.set(title=title, xlabel="step")
    axes[0].set_ylabel("abs(γ)")
    figure.savefig(file, dpi=85)


def main() -> None:
    """Train both, compare, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="training steps (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw γ over time; needs matplotlib")
    args = parser.parse_args()
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error('--plot needs matplotlib: pip install "goctconv[plots]"')
    torch.set_num_threads(1)  # work this small gains nothing from a second thread, and loses much where cores are busy
    histories = {}
    for title, training in (
        ("dynamic weight decay", with_dynamic_decay),
        ("ordinary weight decay", with_ordinary_decay),
    ):
        torch.manual_seed(0)
        model, histories[title] = training(args.steps)
        faded = (gammas(model).abs() < FADED).double().mean().item()
        before = accuracy(model.eval())
        switch_off(model, FADED)
        print(f"{title}: {faded:.1%} of γ below {FADED:g}, accuracy {before:.1%}, without these {accuracy(model):.1%}")
    if args.plot:
        plot(histories, args.plot)


if __name__ == "__main__":
    main()
