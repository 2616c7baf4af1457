"""Training goes on with the optimizer's state: the next step is the masked network's on all that is left."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import StepLR

from goctconv import DynamicWeightDecay
from goctconv.pruning import PruningError, PruningResult, channel_groups, prune_channels
from reference.zoo.blocks import Activated
from reference.zoo.chains import residual as network

EXAMPLE = torch.randn(4, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "Adam": lambda groups: Adam(groups, lr=0.01, weight_decay=0.01),
    "AdamW": lambda groups: AdamW(groups, lr=0.01, amsgrad=True),
    "SGD": lambda groups: SGD(groups, lr=0.01, momentum=0.9, nesterov=True),
    "RMSprop": lambda groups: RMSprop(groups, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda groups: Adagrad(groups, lr=0.01),
    "Adadelta": lambda groups: Adadelta(groups, lr=0.1),
}


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    return [
        {"params": [one for one in named if one[0].startswith(("0", "1"))], "lr": 0.02},
        {"params": [one for one in named if not one[0].startswith(("0", "1"))], "weight_decay": 0.0},
    ]


def train(model: nn.Module, optimizer: Optimizer, steps: int = 2) -> None:
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(EXAMPLE).square().mean().backward()
        optimizer.step()


@torch.no_grad()
def fade(model: nn.Module, *, biases: bool = True) -> None:
    """Fade the first three channels of every BatchNorm, and their biases with ``biases``."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight[:3] = 0
            if biases:
                module.bias[:3] = 0


def cut(result: PruningResult, name: str, tensor: Tensor) -> Tensor:
    return result.plan.cut_like(name, tensor)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_next_step_is_that_of_the_masked_network(kind: str, inplace: bool) -> None:
    model = network()
    optimizer = OPTIMIZERS[kind](groups_of(model))
    train(model, optimizer)
    fade(model)
    masked = copy.deepcopy(model)
    reference = OPTIMIZERS[kind](groups_of(masked))
    reference.load_state_dict(optimizer.state_dict())
    result = prune_channels(model, EXAMPLE, threshold=1e-20, inplace=inplace)
    moved = result.transfer_optimizer(optimizer)
    assert type(moved) is type(optimizer)
    assert {name: layer.left for name, layer in result.report.layers.items()} == {
        "0.norm": 5, "1.norm": 5, "2.body.norm": 5, "3.norm": 9,
    }  # fmt: skip
    train(masked, reference, 1)
    train(result.model, moved, 1)
    expected = dict(masked.named_parameters())
    for name, parameter in result.model.named_parameters():
        torch.testing.assert_close(parameter, cut(result, name, expected[name]), rtol=1e-10, atol=1e-12)
    old, new = optimizer.state_dict()["param_groups"], moved.state_dict()["param_groups"]
    assert old == new
    assert [group["param_names"] for group in new] == [[name for name, _ in g["params"]] for g in groups_of(model)]


def test_state_is_cut_like_parameters_and_is_not_shared() -> None:
    model = network()
    optimizer = OPTIMIZERS["Adam"](groups_of(model))
    train(model, optimizer)
    fade(model)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    before = copy.deepcopy(optimizer.state_dict())
    moved = result.transfer_optimizer(optimizer)
    names = dict(model.named_parameters())
    for name, parameter in result.model.named_parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(moved.state[parameter][key], cut(result, name, optimizer.state[names[name]][key]))
        assert moved.state[parameter]["step"] == 2
    train(result.model, moved, 1)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, state in before["state"].items():
        assert all(torch.equal(value, after["state"][index][key]) for key, value in state.items())


def test_a_new_bias_joins_the_group_of_its_weight() -> None:
    model = network()
    model[4] = nn.Conv2d(12, 5, 1, bias=False).double()
    optimizer = SGD(groups_of(model), lr=0.1, momentum=0.9)
    train(model, optimizer)
    fade(model)
    with torch.no_grad():
        model[3].norm.bias[:3] = 0.5
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    moved = result.transfer_optimizer(optimizer)
    assert result.plan.biases == ["4.bias"]
    assert moved.param_groups[1]["params"][-1] is result.model[4].bias
    assert moved.param_groups[1]["param_names"][-2:] == ["4.weight", "4.bias"]
    before = result.model[4].bias.detach().clone()
    train(result.model, moved, 1)
    assert (result.model[4].bias != before).all()


def test_a_frozen_layer_gets_a_frozen_bias() -> None:
    model = network()
    model[4] = nn.Conv2d(12, 5, 1, bias=False).double().requires_grad_(False)
    optimizer = SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    fade(model)
    with torch.no_grad():
        model[3].norm.bias[:3] = 0.5
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert not result.model[4].bias.requires_grad
    moved = result.transfer_optimizer(optimizer)
    held = {id(one) for group in moved.param_groups for one in group["params"]}
    assert held == {id(one) for one in result.model.parameters() if one.requires_grad}


def test_a_scheduler_of_the_old_one_is_left_behind() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = StepLR(optimizer, 1, gamma=0.5)
    train(model, optimizer)
    scheduler.step()
    fade(model)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    moved = result.transfer_optimizer(optimizer)
    again = StepLR(moved, 1, gamma=0.5, last_epoch=scheduler.last_epoch)
    before = [one.detach().clone() for one in result.model.parameters()]
    train(result.model, moved, 1)
    assert all((a != b).any() for a, b in zip(before, result.model.parameters(), strict=True))
    again.step()
    assert moved.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
def test_dynamic_weight_decay_is_moved(decoupled: bool, inplace: bool) -> None:
    def made(model: nn.Module) -> DynamicWeightDecay:
        adam, cost = (
            Adam(model.parameters(), lr=0.01),
            {"0.norm": 2.0, "1.norm": 1.0, "2.body.norm": 1.0, "3.norm": 1.0},
        )
        return DynamicWeightDecay(adam, model, weight_decay=0.5, cost=cost, decoupled=decoupled, history=1)

    model = network()
    optimizer = made(model)
    train(model, optimizer)
    fade(model)
    masked = network()
    masked.load_state_dict(model.state_dict())
    reference = made(masked)
    reference.load_state_dict(optimizer.state_dict())
    result = prune_channels(model, EXAMPLE, threshold=1e-20, inplace=inplace)
    moved = result.transfer_optimizer(optimizer)
    assert isinstance(moved, DynamicWeightDecay)
    assert moved.model is result.model
    assert [set(group) for group in moved.param_groups] == [set(group) for group in optimizer.param_groups]
    assert torch.equal(moved.metrics()["3.norm"].metric, optimizer.metrics()["3.norm"].metric[3:])
    train(masked, reference, 1)
    train(result.model, moved, 1)
    expected = dict(masked.named_parameters())
    for name, parameter in result.model.named_parameters():
        torch.testing.assert_close(parameter, cut(result, name, expected[name]), rtol=1e-10, atol=1e-12)
    assert moved.history.steps == [1, 2, 3]
    assert torch.equal(moved.history.gamma("3.norm")[:2], optimizer.history.gamma("3.norm")[:2, 3:])
    assert moved.history.gamma("3.norm").shape == (3, 9)
    assert moved.metrics()["0.norm"].cost == 2.0


def test_the_model_is_watched_once() -> None:
    model = network()
    optimizer = DynamicWeightDecay(Adam(model.parameters()), model)
    train(model, optimizer)
    fade(model)
    result = prune_channels(model, EXAMPLE, threshold=1e-20, inplace=True)
    moved = result.transfer_optimizer(optimizer)
    moved.remove()
    hooks = [hook for module in model.modules() for hook in module._forward_hooks.values()]
    assert [hook for hook in hooks if getattr(hook, "function", None) is not None] == []


@pytest.mark.parametrize(("kind", "key"), [("Adafactor", "row_var"), ("LBFGS", "d")])
def test_state_that_cannot_be_cut_is_named(kind: str, key: str) -> None:
    model = network().float() if kind == "Adafactor" else network()
    optimizer = torch.optim.Adafactor(model.parameters()) if kind == "Adafactor" else LBFGS(model.parameters())
    if kind == "Adafactor":
        model(EXAMPLE.float()).square().mean().backward()
        optimizer.step()
    else:

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model.train()(EXAMPLE).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    fade(model)
    example = EXAMPLE.to(next(model.parameters()).dtype)
    result = prune_channels(model, example, threshold=1e-20)
    with pytest.raises(PruningError, match=rf"the optimizer keeps '{key}' of shape .* for .*weight of shape"):
        result.transfer_optimizer(optimizer)


def test_an_optimizer_of_another_model_is_refused() -> None:
    model = network()
    fade(model)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    other = SGD(network().parameters(), lr=0.1)
    with pytest.raises(PruningError, match=r"parameter of shape \(8, 3, 1, 1\) that the model did not have before"):
        result.transfer_optimizer(other)
    with pytest.raises(TypeError, match=r"optimizer=<Sequential> must be a torch.optim.Optimizer"):
        result.transfer_optimizer(model)  # type: ignore[arg-type]


def test_warnings_are_not_silenced_for_good() -> None:
    model = network()
    fade(model)
    prune_channels(model, EXAMPLE, threshold=1e-20)
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", UserWarning, stacklevel=1)


def test_training_goes_on_where_a_constant_went_into_a_running_mean() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        Activated(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU()),
        Activated(nn.Conv2d(8, 6, 1, bias=False), nn.ReLU()),
        nn.Conv2d(6, 2, 1),
    ).double()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer)
    with torch.no_grad():
        model[0].norm.weight[:3] = 0
        model[0].norm.bias[:3] = 0.7
    masked = copy.deepcopy(model)
    reference = SGD(masked.parameters(), lr=0.1, momentum=0.9)
    reference.load_state_dict(optimizer.state_dict())
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert result.plan.moves[0].offsets.keys() == {"1.norm.running_mean"}
    moved = result.transfer_optimizer(optimizer)
    with torch.no_grad():
        torch.testing.assert_close(result.model.train()(EXAMPLE), masked.train()(EXAMPLE), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(result.model.eval()(EXAMPLE), masked.eval()(EXAMPLE), rtol=1e-12, atol=1e-12)
    train(masked, reference, 1)
    train(result.model, moved, 1)
    expected = dict(masked.named_parameters())
    for name, parameter in result.model.named_parameters():
        torch.testing.assert_close(parameter, cut(result, name, expected[name]), rtol=1e-10, atol=1e-12)


def test_state_of_all_parameters_together_is_refused() -> None:
    """LBFGS keeps it at the first parameter, which is not cut here."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
    ).double()
    optimizer = LBFGS(model.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(EXAMPLE).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        model[3].weight[:3] = 0
        model[3].bias[:3] = 0
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    with pytest.raises(PruningError, match=r"the optimizer keeps 'd' of shape .* for 0\.weight"):
        result.transfer_optimizer(optimizer)


def test_a_transform_by_classes_follows() -> None:
    model = network()
    classes = channel_groups(model, EXAMPLE)
    optimizer = DynamicWeightDecay(Adam(model.parameters(), lr=0.01), model, transform=classes.mean)
    train(model, optimizer)
    fade(model)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    moved = result.transfer_optimizer(optimizer)
    train(result.model, moved, 1)
    metrics = moved.metrics()
    assert metrics["2.body.norm"].metric.shape == (5,)
    assert torch.equal(metrics["1.norm"].metric, metrics["2.body.norm"].metric)  # which are summed


def test_what_users_noted_at_parameters_stays() -> None:
    model = network()
    fade(model)
    for name, parameter in model.named_parameters():
        parameter.note = name  # type: ignore[attr-defined]
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert all(one.note == name for name, one in result.model.named_parameters() if name != "4.bias")


class Sam(Optimizer):
    """Steps to where the loss is large nearby, relative to the size of weights, and back along the gradient there."""

    def __init__(self, params: Any, base: Callable[..., Optimizer]) -> None:
        super().__init__(params, {})
        self.base = base(self.param_groups)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        held = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter in held:
            self.state[parameter]["old"] = parameter.clone()
            parameter.add_(parameter.grad * parameter.square(), alpha=0.05)  # adaptive: what is 0 stays 0
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for parameter in held:
            parameter.copy_(self.state[parameter]["old"])
        self.base.step()


def sgd(params: Any) -> SGD:
    return SGD(params, lr=0.01, momentum=0.9)


def decayed(model: nn.Module, optimizer: Optimizer) -> DynamicWeightDecay:
    return DynamicWeightDecay(optimizer, model, weight_decay=0.5)


NESTED: dict[str, Callable[[nn.Module], Any]] = {
    "Lookahead(SGD)": lambda model: timm.optim.Lookahead(sgd(model.parameters()), k=2),
    "Lookahead(Adam)": lambda model: timm.optim.create_optimizer_v2(model, opt="lookahead_adam", lr=0.01),
    "Sam(SGD)": lambda model: Sam(model.parameters(), sgd),
    "DynamicWeightDecay(Lookahead)": lambda model: decayed(model, timm.optim.Lookahead(sgd(model.parameters()), k=2)),
    "Lookahead(DynamicWeightDecay)": lambda model: timm.optim.Lookahead(decayed(model, sgd(model.parameters())), k=2),
    "Sam(DynamicWeightDecay)": lambda model: Sam(model.parameters(), lambda groups: decayed(model, sgd(groups))),
}


def train_with_closure(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(EXAMPLE).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        model.train()
        closure()
        optimizer.step(closure if isinstance(optimizer, Sam) else None)


def inner_of(optimizer: Any) -> Any:
    """Return the optimizer directly inside."""
    for name in ("_base_optimizer", "base", "optimizer"):
        if name in vars(optimizer):
            return vars(optimizer)[name]
    return None


@pytest.mark.parametrize("kind", NESTED)
def test_optimizers_inside_others_are_moved(kind: str) -> None:
    model, masked = network(), network()
    masked.load_state_dict(model.state_dict())
    optimizer, reference = NESTED[kind](model), NESTED[kind](masked)
    for each, its in ((model, optimizer), (masked, reference)):
        train_with_closure(each, its, 3)
        fade(each)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    moved: Any = result.transfer_optimizer(optimizer)
    outer, inside = optimizer, moved
    while outer is not None:
        assert type(inside) is type(outer)
        assert inside is not outer
        assert inside.param_groups is moved.param_groups
        assert not isinstance(inside, DynamicWeightDecay) or inside.model is result.model
        outer, inside = inner_of(outer), inner_of(inside)
    before = copy.deepcopy(model.state_dict())
    train_with_closure(masked, reference, 1)  # Lookahead's fourth, which uses its slow weights
    train_with_closure(result.model, moved, 1)
    expected = dict(masked.named_parameters())
    for name, parameter in result.model.named_parameters():
        torch.testing.assert_close(parameter, cut(result, name, expected[name]), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_constants_move_into_slow_weights() -> None:
    model = network()
    optimizer = timm.optim.Lookahead(sgd(model.parameters()), k=2)
    train(model, optimizer)
    fade(model)
    with torch.no_grad():
        model[3].norm.bias[:3] = 0.5
    bias, slow = model[4].bias.detach().clone(), optimizer._base_optimizer.state[model[4].bias]["lookahead_slow_buff"]
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    moved: Any = result.transfer_optimizer(optimizer)
    new = result.model[4].bias
    assert not torch.equal(new, bias)
    assert torch.allclose(moved._base_optimizer.state[new]["lookahead_slow_buff"] - slow, new - bias)


def test_what_adahessian_notes_at_parameters_is_cut() -> None:
    model = network()
    optimizer = timm.optim.create_optimizer_v2(model, opt="adahessian", lr=0.01)

    def step(model: nn.Module, optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        model.train()(EXAMPLE).square().mean().backward(create_graph=True)
        optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of create_graph, which AdaHessian needs
        step(model, optimizer)
        fade(model)
        result = prune_channels(model, EXAMPLE, threshold=1e-20)
        moved = result.transfer_optimizer(optimizer)
        names = dict(model.named_parameters())
        for name, parameter in result.model.named_parameters():
            assert torch.equal(parameter.hess, cut(result, name, names[name].hess))  # type: ignore[attr-defined]
        step(result.model, moved)
        step(model, optimizer)


@pytest.mark.parametrize("kept", ["tensor", "model", "lock"])
def test_attributes_that_cannot_be_cut_are_named(kept: str) -> None:
    model = network()
    optimizer: Any = sgd(model.parameters())
    optimizer.kept = {
        "tensor": [torch.zeros_like(model[3].norm.weight)], "model": model, "lock": threading.Lock(),
    }[kept]  # fmt: skip
    fade(model)
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    with pytest.raises(PruningError, match=r"SGD keeps 'kept', which cannot be (cut|copied): begin with a fresh"):
        result.transfer_optimizer(optimizer)
