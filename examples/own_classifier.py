"""A classifier of one's own made of multi-scale layers: trained, compiled, saved and loaded again.

Every picture shows two gratings at once, a fine and a coarse one. The four classes are the four combinations of their
directions, so a network has to see both scales to tell them apart.

    python examples/own_classifier.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goctconv import GOctConv, PerScale, SelectScale

CLASSES = 4
SIZE = 32
FINE, COARSE = 3.0, 14.0  # periods in pixels
BATCH = 32


def norm_act(channels: tuple[int, ...]) -> nn.Sequential:
    """Return a normalisation and an activation for every scale."""
    return nn.Sequential(PerScale(nn.BatchNorm2d, channels), PerScale(lambda _: nn.ReLU(), channels))


def make_classifier(classes: int = CLASSES) -> nn.Sequential:
    """Return a small network of three scales, which gathers them all at the coarsest before it decides."""
    return nn.Sequential(
        GOctConv(3, (8, 8, 8), 3, bias=False),  # an image in, three scales out
        norm_act((8, 8, 8)),
        GOctConv((8, 8, 8), (12, 12, 12), 3, stride=2, bias=False),  # every scale to every scale, at half the size
        norm_act((12, 12, 12)),
        GOctConv((12, 12, 12), (0, 0, 24), 3, bias=False),  # a scale of 0 channels is absent
        norm_act((0, 0, 24)),
        SelectScale(-1),  # from three scales back to a plain tensor
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, classes),
    )


def grating(period: float, upright: Tensor) -> Tensor:
    """Return one grating of random phase for each element of ``upright``: its direction."""
    along = torch.arange(SIZE) * (2 * math.pi / period) + 2 * math.pi * torch.rand(len(upright), 1)
    waves = along.sin()
    shape = (len(upright), SIZE, SIZE)
    return torch.where(upright[:, None, None], waves[:, None, :].expand(shape), waves[:, :, None].expand(shape))


def make_batch(count: int) -> tuple[Tensor, Tensor]:
    """Return random pictures (count, 3, 32, 32) and their classes."""
    labels = torch.randint(CLASSES, (count,))
    pictures = grating(FINE, labels % 2 == 1) + grating(COARSE, labels >= 2)
    tint = 0.5 + torch.rand(count, 3, 1, 1)
    return tint * pictures[:, None] + torch.randn(count, 3, SIZE, SIZE), labels


def train(model: nn.Module, steps: int) -> Iterator[float]:
    """Train a model on fresh pictures in every step, and yield the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(steps):
        pictures, labels = make_batch(BATCH)
        loss = F.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss.item()


@torch.inference_mode()
def accuracy(model: nn.Module, count: int = 512) -> float:
    """Return the share of new pictures that the model gets right."""
    pictures, labels = make_batch(count)
    return (model(pictures).argmax(1) == labels).float().mean().item()


def reload(file: Path) -> nn.Sequential:
    """Return the network with the weights of a file; tensors only are read from it, never code."""
    model = make_classifier()
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def main() -> None:
    """Train, compile, save, load and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="training steps (default: %(default)s)")
    parser.add_argument("--save", type=Path, help="keep the weights in this file")
    parser.add_argument(
        "--compile-backend",
        default="aot_eager",
        help='of torch.compile: "inductor" makes the code faster and takes a minute (default: %(default)s)',
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # work this small gains nothing from a second thread, and loses much where cores are busy

    model = make_classifier()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    for step, loss in enumerate(train(model, args.steps), start=1):
        if step % 50 == 0 or step == args.steps:
            print(f"step {step}: loss {loss:.3f}")
    model.eval()
    print(f"accuracy on new pictures: {accuracy(model):.1%} (chance: {1 / CLASSES:.0%})")

    pictures, _ = make_batch(8)
    compiled = torch.compile(model, backend=args.compile_backend, fullgraph=True)
    with TemporaryDirectory() as folder, torch.inference_mode():
        file = args.save or Path(folder) / "classifier.pt"
        torch.save(model.state_dict(), file)  # of the model itself: a compiled one puts "_orig_mod." before its names
        logits = model(pictures)
        torch.testing.assert_close(compiled(pictures), logits, rtol=1e-4, atol=1e-4)
        print(f"compiled with {args.compile_backend}: the same logits")
        torch.testing.assert_close(reload(file)(pictures), logits, rtol=0, atol=0)
        print("saved and loaded again: the same logits")


if __name__ == "__main__":
    main()
