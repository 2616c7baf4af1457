"""Param groups, learning-rate schedulers and the optimizer's own hooks, with γ in a group of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer, lr_scheduler

from goctconv import DynamicWeightDecay
from reference.decay import (
    DECAY,
    Batch,
    PlainTraining,
    assert_same,
    batches,
    gammas_of,
    groups,
    loss_of,
    singly,
    tiny_network,
    train,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = batches(5, 4, 6, 3, 5, 4)

SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=7),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 7),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2), lr_scheduler.ExponentialLR(optimizer, 0.8)],
        milestones=[2],
    ),
}


def run(optimizer: Optimizer, scheduler: Any, step: Callable[[Batch], None]) -> list[list[float]]:
    """Train with a scheduler; return the learning rates of all groups at every step."""
    rates = []
    for batch in DATA:
        step(batch)
        scheduler.step()
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
    return rates


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_act_on_every_group(name: str) -> None:
    model, plain = tiny_network(), tiny_network()
    optimizer = DynamicWeightDecay(SGD(model.parameters(), lr=0.05, momentum=0.9), model, weight_decay=DECAY)
    training = PlainTraining(plain, SGD(groups(plain), lr=0.05, momentum=0.9))
    rates = run(optimizer, SCHEDULERS[name](optimizer), lambda batch: train(model, optimizer, [batch]))
    expected = run(training.optimizer, SCHEDULERS[name](training.optimizer), training.step)
    assert rates == expected
    assert all(len(set(rate)) == 1 for rate in rates)
    assert len({rate[0] for rate in rates}) > 2
    assert_same(model, plain)


def test_scheduler_on_a_plateau() -> None:
    model, plain = tiny_network(), tiny_network()
    optimizer = DynamicWeightDecay(SGD(model.parameters(), lr=0.05), model, weight_decay=DECAY)
    training = PlainTraining(plain, SGD(groups(plain), lr=0.05))
    ours, theirs = (lr_scheduler.ReduceLROnPlateau(one, patience=0) for one in (optimizer, training.optimizer))
    for batch in DATA[:4]:
        train(model, optimizer, [batch])
        training.step(batch)
        ours.step(1.0)
        theirs.step(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05e-3] * 2)
    assert_same(model, plain)


def test_momentum_is_cycled_too() -> None:
    model = tiny_network()
    optimizer = DynamicWeightDecay(Adam(model.parameters(), lr=0.05), model)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=7)
    seen = []
    for batch in DATA[:3]:
        train(model, optimizer, [batch])
        scheduler.step()
        assert optimizer.param_groups[0]["betas"] == optimizer.param_groups[1]["betas"]
        seen.append(optimizer.param_groups[1]["betas"][0])
    assert len(set(seen)) > 1


@pytest.mark.parametrize("as_tensor", [False, True])
def test_coefficient_scheduled_by_hand(*, as_tensor: bool) -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = DynamicWeightDecay(SGD(model.parameters(), lr=0.1), model, weight_decay=0.0)
    assert optimizer.param_groups[-1]["dynamic_weight_decay"] == 0
    for index, batch in enumerate(DATA):
        value = [0.0, 1.5, 3.0, 0.5, 2.0, 0.0][index]
        optimizer.param_groups[-1]["dynamic_weight_decay"] = (
            torch.tensor(value, dtype=torch.float64) if as_tensor else value
        )
        plain.weight_decay = value
        train(model, optimizer, [batch])
        plain.step(batch)
    assert_same(model, plain.model)


@pytest.mark.parametrize("named", [False, True])
def test_groups_of_several_learning_rates(*, named: bool) -> None:
    """Every group that held γ gives one of its own, behind all others, with its other settings."""
    model, plain = tiny_network(), tiny_network()

    def halves(network: Any) -> list[list[Any]]:
        parameters = list(network.named_parameters()) if named else [(None, one) for one in network.parameters()]
        split = [parameters[:3], parameters[3:]]  # conv1 and bn1; the others
        return split if named else [[parameter for _, parameter in half] for half in split]

    settings = [{"lr": 0.05, "momentum": 0.5}, {"lr": 0.2, "weight_decay": 0.0}]
    inner = SGD(
        [{"params": half, **one} for half, one in zip(halves(model), settings, strict=True)], lr=1.0, weight_decay=0.01
    )
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY)
    gammas = gammas_of(plain)
    expected = SGD(
        [
            {"params": [one for one in list(plain.parameters())[:3] if one is not gammas["bn1"]], **settings[0]},
            {"params": [one for one in list(plain.parameters())[3:] if one is not gammas["bn2"]], **settings[1]},
            {"params": [gammas["bn1"]], **settings[0], "weight_decay": 0.0},
            {"params": [gammas["bn2"]], **settings[1]},
        ],
        lr=1.0,
        weight_decay=0.01,
    )
    training = PlainTraining(plain, expected)
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        training.step(batch)
    assert_same(model, plain)
    found = [(group["lr"], group["momentum"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(group["lr"], group["momentum"], group["weight_decay"]) for group in expected.param_groups]
    assert ["dynamic_weight_decay" in group for group in optimizer.param_groups] == [False, False, True, True]
    if named:
        assert [group["param_names"] for group in optimizer.param_groups[2:]] == [["bn1.weight"], ["bn2.weight"]]
        assert optimizer.param_groups[0]["param_names"] == ["conv1.weight", "bn1.bias"]


def test_each_group_has_a_coefficient_of_its_own() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network(), weight_decay=1.0)
    inner = SGD([{"params": list(model.parameters())[:3]}, {"params": list(model.parameters())[3:]}], lr=0.1)
    optimizer = DynamicWeightDecay(inner, model)
    optimizer.param_groups[2]["dynamic_weight_decay"] = 4.0
    optimizer.param_groups[3]["dynamic_weight_decay"] = 0.5
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        plain.see(batch)
        plain.measure()
        plain.penalty({"bn1": 4.0, "bn2": 0.5}).backward()
        plain.optimizer.step()
        plain.optimizer.zero_grad()
    assert_same(model, plain.model)


def test_group_that_holds_only_scales_stays_where_it_is() -> None:
    model, plain = tiny_network(), tiny_network()
    gammas, others = groups(model)[1]["params"], groups(model)[0]["params"]
    inner = SGD([{"params": gammas, "lr": 0.05, "weight_decay": 0.3}, {"params": others}], lr=0.1)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY)
    assert len(optimizer.param_groups) == 2
    assert optimizer.param_groups[0]["weight_decay"] == 0
    other, gamma = groups(plain)
    training = PlainTraining(plain, SGD([{**gamma, "lr": 0.05}, other], lr=0.1))
    train(model, optimizer, *singly(DATA))
    for batch in DATA:
        training.step(batch)
    assert_same(model, plain)


def test_tensor_learning_rate_is_not_shared() -> None:
    model = tiny_network()
    inner = Adam(model.parameters(), lr=torch.tensor(0.1), foreach=False)
    optimizer = DynamicWeightDecay(inner, model)
    first, second = optimizer.param_groups
    assert first["lr"] is not second["lr"]
    first["lr"].fill_(0.3)
    assert second["lr"].item() == pytest.approx(0.1)


def test_unfrozen_scales_are_added_later() -> None:
    """`add_param_group` takes chosen γ in; they decay from then on."""
    model, plain = tiny_network(), tiny_network()
    gamma = model.bn2.weight
    inner = SGD([one for one in model.parameters() if one is not gamma], lr=0.1)
    optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY)
    train(model, optimizer, *singly(DATA[:2]))
    assert optimizer.metrics().keys() == {"bn1"}
    optimizer.add_param_group({"params": [gamma], "lr": 0.2})
    train(model, optimizer, *singly(DATA[2:]))
    assert optimizer.metrics().keys() == {"bn1", "bn2"}

    scale = plain.bn2.weight
    training = PlainTraining(plain, SGD([one for one in plain.parameters() if one is not scale], lr=0.1))
    for index, batch in enumerate(DATA):
        if index == 2:
            training.optimizer.add_param_group({"params": [scale], "lr": 0.2})
        plain.zero_grad()
        training.step(batch)
    assert_same(model, plain)


@pytest.mark.parametrize("side", ["wrapper", "wrapped"])
def test_step_hooks(side: str) -> None:
    """Hooks of either side fire once for a step; those of the wrapped optimizer see the decayed gradients."""
    model = tiny_network()
    optimizer = DynamicWeightDecay(SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    calls: list[tuple[str, bool]] = []
    target: Optimizer = optimizer if side == "wrapper" else optimizer.optimizer
    loss_of(model(DATA[0][0]), DATA[0][1]).backward()
    of_the_loss, before = model.bn1.weight.grad.clone(), model.bn1.weight.detach().clone()

    def note(when: str) -> Callable[..., None]:
        def hook(one: Optimizer, *_: Any) -> None:
            assert one is target
            calls.append((when, torch.equal(model.bn1.weight.grad, of_the_loss)))

        return hook

    handles = [target.register_step_pre_hook(note("before")), target.register_step_post_hook(note("after"))]
    optimizer.step()
    assert calls == [("before", side == "wrapper"), ("after", False)]
    decay = DECAY * optimizer.metrics()["bn1"].metric * before
    torch.testing.assert_close(model.bn1.weight.grad, of_the_loss + decay, rtol=1e-12, atol=0)
    for handle in handles:
        handle.remove()
    train(model, optimizer, [DATA[1]])
    assert len(calls) == 2


@pytest.mark.parametrize("side", ["wrapper", "wrapped"])
def test_state_dict_hooks(side: str) -> None:
    model = tiny_network()
    optimizer = DynamicWeightDecay(SGD(model.parameters(), lr=0.1, momentum=0.9), model)
    target: Optimizer = optimizer if side == "wrapper" else optimizer.optimizer
    calls = []
    target.register_state_dict_pre_hook(lambda *_: calls.append("save"))
    target.register_state_dict_post_hook(lambda _, saved: {**saved, "note": 5})
    target.register_load_state_dict_pre_hook(lambda _, saved: calls.append(f"load {saved['note']}"))
    target.register_load_state_dict_post_hook(lambda *_: calls.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["save", "load 5", "loaded"]


def test_gradients_and_state_are_those_of_the_wrapped_optimizer() -> None:
    model = tiny_network()
    optimizer = DynamicWeightDecay(Adam(model.parameters(), lr=0.1), model)
    train(model, optimizer, [DATA[0]])
    assert optimizer.state is optimizer.optimizer.state
    assert optimizer.param_groups is optimizer.optimizer.param_groups
    assert optimizer.defaults is optimizer.optimizer.defaults
    assert set(optimizer.state) == set(model.parameters())
    optimizer.zero_grad(set_to_none=False)
    assert all(torch.equal(one.grad, torch.zeros_like(one)) for one in model.parameters())
    optimizer.zero_grad()
    assert all(one.grad is None for one in model.parameters())
