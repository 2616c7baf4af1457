"""DynamicWeightDecay around optimizers that hold others, never called Optimizer.__init__, or go around `step`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import SGD, Optimizer

from goctconv import DynamicWeightDecay
from goctconv._checks import ArgumentError
from goctconv._torch import inner_optimizers


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def images(index: int) -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(index))


class Sam(Optimizer):
    """Two steps: to where the loss is largest nearby, and back from there along the gradient."""

    shares_groups = True

    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, defaults)
        self.base = SGD(self.param_groups, **defaults)
        if self.shares_groups:
            self.param_groups = self.base.param_groups

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def first_step(self) -> None:
        for parameter in self._parameters():
            self.state[parameter]["old"] = parameter.clone()
            parameter.add_(parameter.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self._parameters():
            parameter.copy_(self.state[parameter]["old"])
        self.base.step()
        self.zero_grad()

    def step(self, closure: Callable[[], Any]) -> Any:
        self.first_step()
        loss = torch.enable_grad()(closure)()
        self.second_step()
        return loss


class SamWithGroupsOfItsOwn(Sam):
    shares_groups = False


class SamAlone(Sam):
    """The same without an optimizer inside."""

    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, **defaults)
        del self.base

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self._parameters():
            parameter.copy_(self.state[parameter]["old"]).sub_(parameter.grad, alpha=self.defaults["lr"])
        self.zero_grad()


class BareWrapper(Optimizer):
    """Holds another optimizer, and never calls `Optimizer.__init__`."""

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        self.param_groups = base.param_groups
        self.defaults, self.state = base.defaults, base.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self.base.step(closure)


def trained(
    make: Callable[[nn.Module], Optimizer],
    train: Callable[[DynamicWeightDecay, Callable[[int], Any]], None],
    **keywords: Any,
) -> nn.Sequential:
    model = network()
    optimizer = DynamicWeightDecay(make(model), model, **keywords)

    def backward(index: int) -> Tensor:
        loss = model(images(index)).square().mean()
        loss.backward()
        return loss

    train(optimizer, backward)
    return model


def in_one_call(optimizer: DynamicWeightDecay, backward: Callable[[int], Any]) -> None:
    for index in range(3):
        backward(index)
        optimizer.step(lambda index=index: backward(index))


def in_two_calls(optimizer: DynamicWeightDecay, backward: Callable[[int], Any]) -> None:
    for index in range(3):
        backward(index)
        optimizer.first_step()
        backward(index)
        optimizer.second_step()


def ordinary(optimizer: DynamicWeightDecay, backward: Callable[[int], Any]) -> None:
    for index in range(3):
        optimizer.zero_grad()
        backward(index)
        optimizer.step()


@pytest.mark.parametrize("kind", [Sam, SamWithGroupsOfItsOwn])
@pytest.mark.parametrize("decoupled", [False, True])
def test_two_calls_decay_as_one_does(kind: type[Sam], decoupled: bool) -> None:
    def make(model: nn.Module) -> Sam:
        return kind(model.parameters(), lr=0.1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = trained(make, in_one_call, decoupled=decoupled)
        two = trained(make, in_two_calls, decoupled=decoupled)
        none = trained(make, in_two_calls, weight_decay=0.0)
    assert (two[1].weight < none[1].weight - 0.05).all()
    # M of one call is over the images of both evaluations too, at two places of the weights
    torch.testing.assert_close(one[1].weight, two[1].weight, rtol=0.02, atol=0)
    assert torch.equal(none[1].running_mean, trained(make, in_one_call, weight_decay=0.0)[1].running_mean)


def test_two_calls_without_an_optimizer_inside_warn_at_once() -> None:
    def make(model: nn.Module) -> SamAlone:
        return SamAlone(model.parameters(), lr=0.1)

    with pytest.warns(UserWarning, match=r"first_step\(\) goes around step\(\), so no γ is decayed"):
        trained(make, in_two_calls)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decayed = trained(make, in_one_call)[1].weight
        assert (decayed < trained(make, in_one_call, weight_decay=0.0)[1].weight).all()


def test_a_step_of_the_optimizer_inside_decays_with_a_closure_too() -> None:
    found = []
    for direct in (True, False):
        model = network()
        base = SGD(model.parameters(), lr=0.1)
        optimizer = DynamicWeightDecay(BareWrapper(base), model)

        def closure(model: nn.Module = model, base: Optimizer = base) -> Tensor:
            base.zero_grad()
            loss = model(images(0)).square().mean()
            loss.backward()
            return loss

        (base if direct else optimizer).step(closure)
        found.append(model[1].weight)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: timm.optim.create_optimizer_v2(model, opt="lookahead_sgd", lr=0.1),
        lambda model: BareWrapper(SGD(model.parameters(), lr=0.1)),
        lambda model: BareWrapper(BareWrapper(SGD(model.parameters(), lr=0.1))),
    ],
    ids=["lookahead", "bare", "nested"],
)
def test_wrappers_decay_as_what_they_hold(make: Callable[[nn.Module], Optimizer]) -> None:
    decayed = trained(make, ordinary)
    if isinstance(make(network()), BareWrapper):
        plain = trained(lambda model: SGD(model.parameters(), lr=0.1), ordinary)
        assert torch.equal(decayed[1].weight, plain[1].weight)
    assert (decayed[1].weight < trained(make, ordinary, weight_decay=0.0)[1].weight - 0.05).all()


class SlowWeights(BareWrapper):
    """The first Lookahead: slow weights in lists beside the groups, or in one list."""

    def __init__(self, base: Optimizer, *, by_group: bool) -> None:
        super().__init__(base)
        groups = [[own.detach().clone() for own in group["params"]] for group in self.param_groups]
        self.slow: list[Any] = groups if by_group else [own for group in groups for own in group]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        self.base.step(closure)
        slow = [own for its in self.slow for own in (its if isinstance(its, list) else [its])]
        fast = [own for group in self.param_groups for own in group["params"]]
        for own, kept in zip(fast, slow, strict=True):
            own.copy_(kept.lerp_(own, 0.5))


@pytest.mark.parametrize("by_group", [False, True])
def test_lists_beside_the_groups_follow_their_order(by_group: bool) -> None:
    def make(model: nn.Module) -> SlowWeights:
        return SlowWeights(SGD(model.parameters(), lr=0.1), by_group=by_group)

    plain, half = trained(make, ordinary), trained(lambda model: SGD(model.parameters(), lr=0.05), ordinary)
    for own, other in zip(plain.parameters(), half.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_state_of_a_wrapper_is_saved_and_loaded() -> None:
    model = network()
    optimizer = DynamicWeightDecay(timm.optim.create_optimizer_v2(model, opt="lookahead_adam", lr=0.1), model)
    ordinary(optimizer, lambda index: model(images(index)).square().mean().backward())
    state = copy.deepcopy(optimizer.state_dict())
    other = network()
    again = DynamicWeightDecay(timm.optim.create_optimizer_v2(other, opt="lookahead_adam", lr=0.1), other)
    again.load_state_dict(state)
    other.load_state_dict(model.state_dict())
    for own, net in ((optimizer, model), (again, other)):
        own.zero_grad()
        net(images(9)).square().mean().backward()
        own.step()
    assert torch.equal(model[1].weight, other[1].weight)


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_plain_step_of_the_optimizer_inside_decays(decoupled: bool) -> None:
    found = []
    for direct in (True, False):
        model = network()
        outer = BareWrapper(SGD(model.parameters(), lr=0.1))
        outer.others = {"base": outer.base}  # type: ignore[attr-defined]
        optimizer = DynamicWeightDecay(outer, model, decoupled=decoupled)
        model(images(0)).square().mean().backward()
        (outer.base if direct else optimizer).step()
        found.append(model[1].weight)
    assert torch.equal(*found)


class Twice(BareWrapper):
    """Two optimizers of the same parameters, which the caller steps one after the other."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base)
        self.second = SGD([{"params": group["params"]} for group in base.param_groups], lr=0.01)


@pytest.mark.parametrize("decoupled", [False, True])
def test_two_optimizers_inside_that_hold_the_same_count_one_step(decoupled: bool) -> None:
    model = network()
    outer = Twice(SGD(model.parameters(), lr=0.1))
    optimizer = DynamicWeightDecay(outer, model, decoupled=decoupled, history=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in range(2):
            outer.base.zero_grad()
            model(images(index)).square().mean().backward()
            outer.base.step()
            outer.second.step()
            assert optimizer.metrics()["1"].images == 4
    assert optimizer.history.steps == [1, 2]


def test_wrapping_again_forgets_the_wrapper_that_is_gone() -> None:
    model = network()
    base = SGD(model.parameters(), lr=0.1)
    DynamicWeightDecay(base, model)  # held by nobody
    optimizer = DynamicWeightDecay(base, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ordinary(optimizer, lambda index: model(images(index)).square().mean().backward())
    del optimizer
    with pytest.warns(UserWarning, match="took a step by itself"):
        base.step()


def test_inner_optimizers_are_found_once() -> None:
    base = SGD(network().parameters(), lr=0.1)
    inner = BareWrapper(base)
    outer = BareWrapper(inner)
    outer.others = [base, inner]  # type: ignore[attr-defined]
    assert set(map(id, inner_optimizers(outer))) == {id(base), id(inner)}
    assert inner_optimizers(base) == []


@pytest.mark.parametrize("optimizer", [SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("decoupled", [False, True])
def test_maximizing_a_negative_loss_is_minimizing(optimizer: type[Optimizer], decoupled: bool) -> None:
    found = []
    for sign in (1, -1):
        model = network()
        decay = DynamicWeightDecay(
            optimizer(model.parameters(), lr=0.01, maximize=sign < 0), model, decoupled=decoupled
        )
        for index in range(3):
            decay.zero_grad()
            (sign * model(images(index)).square().mean()).backward()
            decay.step()
        found.append(model[1].weight.detach())
    torch.testing.assert_close(*found, rtol=1e-6, atol=0)


def test_a_sharded_optimizer_that_has_stepped_is_refused_and_left_alone(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        model = network()
        sharded = ZeroRedundancyOptimizer(model.parameters(), SGD, lr=0.1, momentum=0.9)
        model(images(0)).sum().backward()
        sharded.step()
        with pytest.raises(ArgumentError, match="has stepped") as caught:
            DynamicWeightDecay(sharded, model)
        assert caught.value.argument == "optimizer"
        assert [len(group["params"]) for group in sharded.param_groups] == [6]
        others = [parameter for parameter in model.parameters() if parameter is not model[1].weight]
        sharded = ZeroRedundancyOptimizer(
            [{"params": others}, {"params": [model[1].weight]}], SGD, lr=0.1, momentum=0.9
        )
        sharded.step()
        optimizer = DynamicWeightDecay(sharded, model)
        before = model[1].weight.detach().clone()
        ordinary(optimizer, lambda index: (0 * model(images(index)).sum()).backward())
        assert (model[1].weight < before).all()
    finally:
        torch.distributed.destroy_process_group()
