"""A training step of CSNet against that of its plain form, side by side.

Both have the same parameters, and gradients that are compared first. Each does forward, loss and backward on one batch,
in turns; printed are the medians and the ratio of the medians. ``--native`` compares the native kernels
with PyTorch's instead, both channels_last.

    python benchmarks/training_speed.py --model csnet_x2 --size 224 --batch 4 --rounds 15
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from plain_csnet import PlainCSNet
from torch import Tensor, nn

import goctconv
from goctconv.deployment import compare_timings
from goctconv.layers import native_kernels


def main() -> None:
    """Compare, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="csnet_x2")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--native", action="store_true", help="measure the native kernels against PyTorch's own")
    parser.add_argument("--compile", action="store_true", help="measure the compiled model too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = goctconv.create_model(options.model)
    images = torch.randn(options.batch, 3, options.size, options.size)
    masks = (torch.rand(options.batch, 1, options.size, options.size) > 0.7).float()
    if options.native:
        compare_native(model.to(memory_format=torch.channels_last), images, masks, options.rounds)
        return
    plain = PlainCSNet(model)
    print(f"largest relative difference of gradients in float64: {difference(model, plain, images, masks):.1e}")
    last = {"memory_format": torch.channels_last}
    sides = {
        "plain": (plain, images),
        "goctconv, contiguous": (copy.deepcopy(model), images),
        "goctconv, channels_last": (model.to(**last), images.to(**last)),
        "goctconv, channels_last, bf16": (copy.deepcopy(model).to(**last), images.to(**last)),
    }
    if options.compile:
        sides["goctconv, channels_last, compiled"] = (torch.compile(copy.deepcopy(model)), images.to(**last))

    def step(name: str) -> None:
        network, given = sides[name]
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in name):
            loss = F.binary_cross_entropy_with_logits(network(given).float(), masks)
        loss.backward()

    def prepare() -> None:
        for network, _ in sides.values():
            network.zero_grad()

    steps = {name: partial(step, name) for name in sides}
    timings = compare_timings(steps, rounds=options.rounds, warmup=1, prepare=prepare)
    baseline = timings.median("plain")
    for name, (low, _, high) in timings.ratios("plain").items():
        median = timings.median(name)
        print(f"{name}: {1000 * median:.0f} ms, {baseline / median:.2f} x ({low:.2f}-{high:.2f})")


def compare_native(model: nn.Module, images: Tensor, masks: Tensor, rounds: int) -> None:
    """Print the CPU time of a step with and without native kernels, in pairs, and the difference of gradients."""
    images, seconds, gradients = images.contiguous(memory_format=torch.channels_last), [], {}
    for number in range(rounds + 2):
        pair = []
        for context in (nullcontext, native_kernels):
            model.zero_grad()
            begin = time.process_time()
            with context():
                logits = model(images)
            F.binary_cross_entropy_with_logits(logits, masks).backward()
            pair.append(time.process_time() - begin)
            gradients[context] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        seconds += [pair] if number > 1 else []
    own, native = torch.tensor(seconds).T
    exact = copy.deepcopy(model).double()
    exact.zero_grad()
    F.binary_cross_entropy_with_logits(exact(images.double()), masks.double()).backward()
    truth = torch.cat([p.grad.flatten() for p in exact.parameters() if p.grad is not None])
    theirs, ours = (float((found - truth).norm() / truth.norm()) for found in gradients.values())
    print(f"error of the gradients against float64, of their norm: PyTorch {theirs:.1e}, native {ours:.1e}")
    ratios = (own / native).sort().values
    low, middle, high = (float(ratios[round(share * (len(ratios) - 1))]) for share in (0.1, 0.5, 0.9))
    print(f"PyTorch {1000 * own.min():.0f} ms, native {1000 * native.min():.0f} ms of CPU time (least of {rounds})")
    print(f"ratio of pairs: {middle:.2f} x ({low:.2f}-{high:.2f})")


def difference(model: nn.Module, plain: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Return the largest difference of gradients of two networks, relative to the largest of each parameter."""
    size = 64
    found = []
    for network in (copy.deepcopy(model).double(), copy.deepcopy(plain).double()):
        logits = network(images[:, :, :size, :size].double())
        F.binary_cross_entropy_with_logits(logits, masks[:, :, :size, :size].double()).backward()
        found.append(sorted(((tuple(p.shape), p.grad) for p in network.parameters()), key=order))
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for (_, a), (_, b) in zip(*found, strict=True)
    )


order: Callable[[tuple[tuple[int, ...], Tensor]], object] = lambda pair: (pair[0], float(pair[1].abs().sum()))  # noqa: E731


if __name__ == "__main__":
    main()
