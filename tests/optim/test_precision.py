"""Low precision: autocast, GradScaler, and the fused and foreach kinds of optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from goctconv import DynamicWeightDecay

if TYPE_CHECKING:
    from collections.abc import Callable
from reference.decay import (
    DECAY,
    Batch,
    PlainTraining,
    assert_metrics,
    assert_same,
    batches,
    global_average_pool,
    groups,
    loss_of,
    singly,
    tiny_network,
    train,
)
from reference.zoo.tiny import TinyNetwork

KINDS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
ACTIVATIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "module": nn.ReLU,
    "function": lambda: torch.relu,
    "in place": lambda: nn.ReLU(inplace=True),
    "silu": nn.SiLU,
}
DATA = batches(5, 4, 6, 3)
SCALE = 1024.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_autocast(activation: str, dtype: torch.dtype) -> None:
    """M is the mean of the activation as it is, in low precision, computed in float32."""
    seen: list[Tensor] = []

    class Watched(TinyNetwork):
        def forward(self, images: Tensor) -> Tensor:
            output, activations = self.read(images)
            assert activations["bn1"].dtype == dtype
            seen.append(global_average_pool(activations["bn1"].detach()).mean(0))
            return output

    model = Watched(ACTIVATIONS[activation]())
    model.load_state_dict(tiny_network().state_dict())
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    for images, target in DATA:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            output = model(images.float())
        loss_of(output.float(), target.float()).backward()
        before, gradient = model.bn1.weight.detach().clone(), model.bn1.weight.grad.clone()
        optimizer.step()
        metric = optimizer.metrics()["bn1"].metric
        assert metric.dtype == torch.float32
        torch.testing.assert_close(metric, seen[-1], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(model.bn1.weight.grad, gradient + DECAY * metric * before, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_model(dtype: torch.dtype) -> None:
    """γ in low precision decays by an M in float32; many images do not saturate the count."""
    model = tiny_network().to(dtype)
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    images, target = batches(300)[0]
    with torch.no_grad():
        expected = global_average_pool(tiny_network().to(dtype).read(images.to(dtype))[1]["bn1"]).mean(0)
    loss_of(model(images.to(dtype)), target.to(dtype)).backward()
    before, gradient = model.bn1.weight.detach().clone(), model.bn1.weight.grad.clone()
    optimizer.step()
    metric = optimizer.metrics()["bn1"].metric
    assert optimizer.metrics()["bn1"].images == 300
    torch.testing.assert_close(metric, expected, rtol=1e-6, atol=1e-7)
    decayed = gradient.float() + DECAY * metric * before.float()
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(model.bn1.weight.grad.float(), decayed, rtol=tolerance, atol=tolerance)


def scaled_run(model: Any, optimizer: torch.optim.Optimizer, data: list[Batch], unscale: bool = False) -> GradScaler:
    scaler = GradScaler("cpu", init_scale=SCALE, growth_interval=2)
    for images, target in data:
        optimizer.zero_grad()
        scaler.scale(loss_of(model(images), target)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return scaler


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_grad_scaler(kind: str, options: dict[str, bool], *, unscale: bool, decoupled: bool) -> None:
    """Scaled training, with scales that grow by powers of 2, equals unscaled training."""
    models = tiny_network(), tiny_network()
    ours, theirs = (
        DynamicWeightDecay(
            KINDS[kind](model.parameters(), lr=0.02, **chosen), model, weight_decay=DECAY, decoupled=decoupled
        )
        for model, chosen in zip(models, (options, {"foreach": False}), strict=True)
    )
    scaler = scaled_run(models[0], ours, DATA, unscale)
    train(models[1], theirs, *singly(DATA))
    assert scaler.get_scale() == SCALE * 4
    assert_same(*models, tolerance=1e-11)
    assert_metrics(ours, {name: one.metric for name, one in theirs.metrics().items()}, 3, tolerance=1e-11)
    assert not hasattr(ours.optimizer, "grad_scale")
    assert not hasattr(ours.optimizer, "found_inf")


@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_implementation(kind: str, options: dict[str, bool]) -> None:
    model, plain = tiny_network(), tiny_network()
    inner = KINDS[kind](model.parameters(), lr=0.02, weight_decay=0.1, **options)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY)
    training = PlainTraining(plain, KINDS[kind](groups(plain), lr=0.02, weight_decay=0.1, foreach=False))
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        training.step(batch)
    assert_same(model, plain, tolerance=1e-11)
    assert optimizer.param_groups[1].get("fused") == options.get("fused", inner.defaults["fused"])


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("options", [{"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_skipped_step(kind: str, options: dict[str, bool], *, decoupled: bool) -> None:
    """Infinite gradients change nothing; the images of the skipped step count for the next one.

    That holds for an optimizer that unscales by itself too: its step is called, and must do nothing.
    """
    model, plain = tiny_network(), tiny_network()
    inner = KINDS[kind](model.parameters(), lr=0.02, **options)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY, decoupled=decoupled)
    training = PlainTraining(plain, KINDS[kind](groups(plain), lr=0.02, foreach=False))
    scaler = GradScaler("cpu", init_scale=SCALE)
    for index, (images, target) in enumerate(DATA):
        before = {name: one.detach().clone() for name, one in model.state_dict().items() if "running" not in name}
        optimizer.zero_grad()
        loss = loss_of(model(images), target)
        scaler.scale(loss * (float("inf") if index in {0, 2} else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if index in {0, 2}:
            training.loss((images, target))
            for name, one in before.items():
                if "num_batches" not in name:
                    assert torch.equal(model.state_dict()[name], one), name
            continue
        if decoupled:
            training.see((images, target))
            training.optimizer.step()
            training.optimizer.zero_grad()
            training.measure()
            with torch.no_grad():
                for name, metric in training.metrics.items():
                    plain.get_submodule(name).weight.mul_(1 - 0.02 * DECAY * metric)
        else:
            training.step((images, target))
        assert_metrics(optimizer, training.metrics, len(images) + len(DATA[index - 1][0]), tolerance=1e-10)
    assert_same(model, plain, tolerance=1e-10)
    assert scaler.get_scale() == SCALE / 4


def test_skipped_step_of_autocast_in_half_precision() -> None:
    """The whole recipe of torch: fp16 activations, float32 parameters, a scale that overflows at first."""
    models = tiny_network().float(), tiny_network().float()
    optimizers = [DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.05), model) for model in models]
    scaler = GradScaler("cpu", init_scale=2.0**22, backoff_factor=2.0**-8)
    skipped = 0
    for images, target in DATA:
        optimizers[0].zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = loss_of(models[0](images.float()).float(), target.float())
        scale = scaler.get_scale()
        scaler.scale(loss).backward()
        before = models[0].bn1.weight.detach().clone()
        scaler.step(optimizers[0])
        scaler.update()
        with torch.autocast("cpu", torch.float16):
            loss = loss_of(models[1](images.float()).float(), target.float())
        if scaler.get_scale() < scale:
            skipped += 1
            assert torch.equal(models[0].bn1.weight, before)
        else:
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            assert optimizers[0].metrics()["bn1"].images == optimizers[1].metrics()["bn1"].images
    assert 0 < skipped < len(DATA)
    assert_same(*models, tolerance=2e-3)


def test_gradient_scale_of_accumulated_batches_and_clipping() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    scaler = GradScaler("cpu", init_scale=SCALE)
    for step in (DATA[:2], DATA[2:]):
        optimizer.zero_grad()
        for images, target in step:
            scaler.scale(loss_of(model(images), target)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        scaler.step(optimizer)
        scaler.update()
        plain.see(*step)
        nn.utils.clip_grad_norm_(plain.model.parameters(), 0.05)
        plain.step()
    assert_same(model, plain.model)


def test_moving_the_model_to_another_precision_while_training() -> None:
    """The sums follow the activations; M of the last step keeps its own precision."""
    model = tiny_network().float()
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    train(model, optimizer, [(DATA[0][0].float(), DATA[0][1].float())])
    assert optimizer.metrics()["bn2"].metric.dtype == torch.float32
    optimizer.zero_grad()
    model.double()
    plain = PlainTraining(tiny_network())
    plain.model.load_state_dict(model.state_dict())
    train(model, optimizer, [DATA[1]])
    plain.step(DATA[1])
    assert_same(model, plain.model)
    assert optimizer.metrics()["bn2"].metric.dtype == torch.float64
