"""Dynamic weight decay by plain autograd, the penalty in the loss and no hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .zoo.tiny import TinyNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Batch: TypeAlias = tuple[Tensor, Tensor]
DECAY = 3.0


def seeded(make: Callable[[], nn.Module], seed: int = 5) -> Any:
    """Return a network in float64, always with the same weights; γ and β are not those of a fresh BatchNorm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().double()
        for norm in model.modules():
            if isinstance(norm, _BatchNorm) and not isinstance(norm.weight, nn.UninitializedParameter):
                with torch.no_grad():
                    norm.weight.uniform_(0.3, 1.5)
                    norm.bias.normal_(0, 0.5)
    return model.train()


def tiny_network(activation: Callable[[Tensor], Tensor] | None = None) -> TinyNetwork:
    """Return a `TinyNetwork` in float64, always with the same weights."""
    network: TinyNetwork = seeded(lambda: TinyNetwork(activation))
    return network


def batches(*images: int, shape: Sequence[int] = (3, 8, 7), seed: int = 11) -> list[Batch]:
    """Return batches of so many images each, in float64, with targets; always the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(count, *shape, generator=generator, dtype=torch.float64) + 0.1 * index,
            torch.randn(count, 2, generator=generator, dtype=torch.float64),
        )
        for index, count in enumerate(images)
    ]


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(output, target)


def global_average_pool(activation: Tensor) -> Tensor:
    """|mean over pixels|, (B, C), in no lower precision than float32."""
    precise = activation if activation.dtype == torch.float64 else activation.float()
    return precise.flatten(2).mean(2).abs() if activation.dim() > 2 else precise.abs()


def gammas_of(model: nn.Module) -> dict[str, Tensor]:
    """Return γ of every BatchNorm."""
    return {name: norm.weight for name, norm in model.named_modules() if isinstance(norm, _BatchNorm)}


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the param groups as wrapping makes them: γ last, with no ordinary weight decay."""
    ours = {id(gamma) for gamma in gammas_of(model).values()}
    return [
        {"params": [parameter for parameter in model.parameters() if id(parameter) not in ours]},
        {"params": [parameter for parameter in model.parameters() if id(parameter) in ours], "weight_decay": 0.0},
    ]


class PlainTraining:
    """A training loop that adds ½·λ·Σ M·γ² to the loss."""

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer | None = None,
        weight_decay: float = DECAY,
        metric: Callable[[Tensor], Tensor] = global_average_pool,
    ) -> None:
        self.model, self.weight_decay, self.metric = model, weight_decay, metric
        self.optimizer = torch.optim.SGD(groups(model), lr=0.1) if optimizer is None else optimizer
        self.seen: dict[str, list[Tensor]] = {}
        self.metrics: dict[str, Tensor] = {}

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, whose images count."""
        output, activations = self.model.read(batch[0])
        for name, activation in activations.items():
            self.seen.setdefault(name, []).append(self.metric(activation.detach()))
        return loss_of(output, batch[1])

    def see(self, *micro_batches: Batch) -> None:
        """Add the gradients of the losses of some batches."""
        for batch in micro_batches:
            self.loss(batch).backward()

    def measure(self) -> None:
        """Compute M from the images since the last measurement."""
        self.metrics = {name: torch.cat(values).mean(0) for name, values in self.seen.items()}
        self.seen = {}

    def penalty(self, costs: dict[str, float] | None = None) -> Tensor:
        """Return ½·λ·Σ M·γ²."""
        gammas = gammas_of(self.model)
        factors = dict.fromkeys(self.metrics, 1.0) if costs is None else costs
        parts = [factors[name] * (metric * gammas[name] ** 2).sum() for name, metric in self.metrics.items()]
        return 0.5 * self.weight_decay * torch.stack(parts).sum()

    def step(self, *micro_batches: Batch) -> None:
        """Take a step on some batches."""
        self.see(*micro_batches)
        self.measure()
        self.penalty().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, *steps: Sequence[Batch]) -> None:
    """Train with an optimizer that decays by itself; every step has one or several batches."""
    for step in steps:
        optimizer.zero_grad()
        for images, target in step:
            loss_of(model(images), target).backward()
        optimizer.step()


def assert_same(actual: nn.Module, expected: nn.Module, tolerance: float = 1e-12) -> None:
    """All parameters are equal, within a tolerance; 0: bit by bit."""
    ours, theirs = dict(actual.named_parameters()), dict(expected.named_parameters())
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        message = f"{name} differs by {(ours[name] - parameter).abs().max():.2e}"
        torch.testing.assert_close(ours[name], parameter, rtol=tolerance, atol=tolerance, msg=message)


def assert_metrics(optimizer: Any, expected: dict[str, Tensor], images: int, tolerance: float = 1e-12) -> None:
    """M of the last step and its number of images are these."""
    found = optimizer.metrics()
    assert found.keys() == expected.keys()
    for name, metric in expected.items():
        assert found[name].images == images
        torch.testing.assert_close(found[name].metric, metric, rtol=tolerance, atol=tolerance)


def singly(some: Iterable[Batch]) -> list[list[Batch]]:
    """Return steps of one batch each."""
    return [[batch] for batch in some]
