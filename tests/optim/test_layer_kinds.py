"""Kinds of BatchNorm, metrics and costs: one step equals the penalty ½·λ·Σ cost·M·γ² in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import parametrize

from goctconv import DynamicWeightDecay
from reference.decay import (
    DECAY,
    PlainTraining,
    assert_metrics,
    assert_same,
    batches,
    seeded,
    singly,
    tiny_network,
    train,
)
from reference.zoo.tiny import OfDimension, TinyNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = batches(5, 4, 6)


def check(make: Callable[[], Any], data: list[Any] = DATA, **options: Any) -> DynamicWeightDecay:
    """Train with and without the wrapper; the parameters and M are the same."""
    model, plain = seeded(make), seeded(make)
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY, **options)
    training = PlainTraining(plain, torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9))
    train(model, optimizer, *singly(data))
    for batch in data:
        training.step(batch)
    assert_same(model, plain)
    assert_metrics(optimizer, training.metrics, len(data[-1][0]))
    return optimizer


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_dimensions(dimensions: int) -> None:
    shape = (3, 7, 5, 4)[: dimensions + 1]
    check(lambda: OfDimension(dimensions), batches(5, 4, 6, shape=shape))


@pytest.mark.parametrize(
    "options",
    [{}, {"apply_act": False}, {"act_layer": nn.SiLU}, {"act_layer": "prelu", "inplace": False}],
    ids=["relu", "none", "silu", "prelu"],
)
def test_batch_norm_of_timm_that_applies_its_activation(options: dict[str, Any]) -> None:
    def make() -> TinyNetwork:
        model = TinyNetwork(nn.Identity())
        model.bn1 = BatchNormAct2d(5, **options)
        return model

    optimizer = check(make)
    own = "its own activation" if options.get("apply_act", True) else "its output"
    assert optimizer.metrics()["bn1"].activation == own


class Softplus(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return F.softplus(raw)


class Square(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return raw**2


class Product(nn.Module):
    """γ of two parameters."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first * second.exp()

    def right_inverse(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        return scale / 2, torch.full_like(scale, 2).log()


def parametrised(*parametrizations: nn.Module, frozen: str = "") -> TinyNetwork:
    model = TinyNetwork()
    with torch.no_grad():
        model.bn1.weight.uniform_(0.3, 1.5)
    for one in parametrizations:
        parametrize.register_parametrization(model.bn1, "weight", one)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and name.endswith(frozen)))
    return model


@pytest.mark.parametrize("kinds", [(Softplus,), (Square,), (Product,), (Softplus, Square)])
def test_parametrised_scale(kinds: tuple[type[nn.Module], ...]) -> None:
    check(lambda: parametrised(*(kind() for kind in kinds)))


def test_parametrised_scale_with_one_frozen_parameter() -> None:
    check(lambda: parametrised(Product(), frozen="original1"))


def test_parametrised_scale_decays_decoupled() -> None:
    """What is subtracted is lr times the gradient of the penalty, at the γ that the plain step left."""
    model, plain = seeded(lambda: parametrised(Softplus())), seeded(lambda: parametrised(Softplus()))
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY, decoupled=True)
    training = PlainTraining(plain, torch.optim.SGD(plain.parameters(), lr=0.1))
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        training.see(batch)
        for penalty in (False, True):
            if penalty:
                training.measure()
                training.penalty().backward()
            training.optimizer.step()
            training.optimizer.zero_grad()
    assert_same(model, plain)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")  # torch says so of every one
def test_lazy_batch_norm_wrapped_before_its_first_forward() -> None:
    model, plain = tiny_network(), tiny_network()
    model.bn1 = nn.LazyBatchNorm2d(dtype=torch.float64)
    plain.bn1 = nn.BatchNorm2d(5, dtype=torch.float64)
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    training = PlainTraining(plain)
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        training.step(batch)
    assert_same(model, plain)
    assert optimizer.metrics().keys() == {"bn1", "bn2"}


def test_batch_norm_without_running_statistics_or_bias() -> None:
    def make() -> TinyNetwork:
        model = TinyNetwork()
        model.bn1 = nn.BatchNorm2d(5, track_running_stats=False)
        return model

    check(make)


def test_sync_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found and its activation is read; its own forward, which needs CUDA, is that of BatchNorm here."""
    model, plain = nn.SyncBatchNorm.convert_sync_batchnorm(tiny_network()), PlainTraining(tiny_network())
    assert isinstance(model.bn1, nn.SyncBatchNorm)
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", nn.BatchNorm2d.forward)
    monkeypatch.setattr(nn.SyncBatchNorm, "_check_input_dim", lambda *_: None)
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        plain.step(batch)
    assert_same(model, plain.model)
    assert_metrics(optimizer, plain.metrics, 6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SyncBatchNorm runs on CUDA only")
def test_sync_batch_norm_on_cuda() -> None:
    model, plain = nn.SyncBatchNorm.convert_sync_batchnorm(tiny_network()).cuda(), PlainTraining(tiny_network().cuda())
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    for images, target in DATA:
        batch = (images.cuda(), target.cuda())
        train(model, optimizer, [batch])
        plain.step(batch)
    assert_same(model, plain.model, tolerance=1e-10)
    assert_metrics(optimizer, plain.metrics, 6, tolerance=1e-10)


METRICS: dict[str, Callable[[Tensor], Tensor]] = {
    "gap": lambda activation: activation.mean((2, 3)).abs(),
    "abs_mean": lambda activation: activation.abs().mean((2, 3)),
    "rms": lambda activation: (activation**2).mean((2, 3)).sqrt(),
    "max": lambda activation: activation.abs().amax((2, 3)),
}


def variance(activation: Tensor) -> Tensor:
    return activation.flatten(2).var(2)


@pytest.mark.parametrize("metric", [*METRICS, variance])
@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.3), torch.tanh])
def test_metrics(metric: str | Callable[[Tensor], Tensor], activation: Callable[[Tensor], Tensor]) -> None:
    model, plain = tiny_network(activation), tiny_network(activation)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY, metric=metric)
    training = PlainTraining(plain, metric=METRICS[metric] if isinstance(metric, str) else metric)
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        training.step(batch)
    assert_same(model, plain)
    assert_metrics(optimizer, training.metrics, 6)


# Maps of 8 x 7 and 6 x 5 pixels. conv1 makes a channel of bn1 of 3 with 3 x 3 taps; conv2 reads it for 7 of 6 x 5
# pixels and makes a channel of bn2 of 5; a pooling follows bn2.
MACS = {"bn1": 56 * 3 * 9 + 30 * 7 * 9, "bn2": 30 * 5 * 9}
COSTS = {
    "resolution": {"bn1": (56 / 30) ** 0.5, "bn2": 1.0},
    "macs": {name: macs / (sum(MACS.values()) / 2) for name, macs in MACS.items()},
    "mapping": {"bn1": 0.25, "bn2": 3.0},
}


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("cost", COSTS)
def test_costs(cost: str, *, decoupled: bool) -> None:
    model, plain = tiny_network(), tiny_network()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    given = COSTS[cost] if cost == "mapping" else cost
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY, cost=given, decoupled=decoupled)
    training = PlainTraining(plain)
    for batch in DATA:
        train(model, optimizer, [batch])
        training.see(batch)
        if decoupled:
            training.optimizer.step()
            training.optimizer.zero_grad()
        training.measure()
        training.penalty(COSTS[cost]).backward()
        training.optimizer.step()
        training.optimizer.zero_grad()
    assert_same(model, plain)
    assert_metrics(optimizer, training.metrics, 6)  # M itself is without the factor
    for name, layer in optimizer.metrics().items():
        assert layer.cost == pytest.approx(COSTS[cost][name], rel=1e-12)


def test_macs_of_grouped_and_transposed_convolutions() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU()),  # 7 x 5 pixels
        *(nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.ConvTranspose2d(6, 4, 2, stride=2), nn.BatchNorm2d(4)),  # 14 x 10 pixels
    )
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, cost="macs")
    model(torch.rand(3, 3, 7, 5)).square().mean().backward()
    optimizer.step()
    macs = {"1": 35 * 3 + 35 * 9 * 2, "4": 35 * 9 * 2 + 35 * 4 * 4, "7": 35 * 6 * 4}
    mean = sum(macs.values()) / 3
    for name, layer in optimizer.metrics().items():
        assert layer.cost == pytest.approx(macs[name] / mean, rel=1e-12), name


def test_resolution_of_halved_maps() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.AvgPool2d(4), nn.Conv2d(5, 7, 1), nn.BatchNorm2d(7))
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, cost="resolution")
    model(torch.rand(3, 3, 16, 8)).square().mean().backward()
    optimizer.step()
    assert {name: layer.cost for name, layer in optimizer.metrics().items()} == pytest.approx({"1": 4.0, "4": 1.0})
