"""Wrong use of DynamicWeightDecay is answered by an error, or a warning, that says what to do."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import timm.scheduler
import torch
import torch.distributed.tensor
from torch import nn
from torch.optim import SGD

import goctconv
from goctconv import ArgumentError, DynamicWeightDecay
from goctconv.optim import StatisticsError
from reference.zoo.chains import nested as network


def wrapped(model: nn.Module, **options: object) -> DynamicWeightDecay:
    return DynamicWeightDecay(SGD(model.parameters(), 0.1), model, **options)  # type: ignore[arg-type]


def train(model: nn.Module) -> None:
    model(torch.rand(2, 3, 8, 8)).mean().backward()


class Rateless(torch.optim.Optimizer):
    """Knows no learning rate."""


def test_an_optimizer_of_another_model() -> None:
    with pytest.raises(ValueError, match=r"does not hold γ of '1', '3\.1': make it of the parameters of this model"):
        DynamicWeightDecay(SGD(network().parameters(), 0.1), network())


def test_an_optimizer_of_a_part() -> None:
    model = network()
    assert set(DynamicWeightDecay(SGD(model[:3].parameters(), 0.1), model)._watch.layers) == {"1"}
    with pytest.raises(ValueError, match=r"does not hold γ of '3\.1'"):
        DynamicWeightDecay(SGD(model[:3].parameters(), 0.1), model, include="*.1")


@pytest.mark.parametrize(
    "model", [nn.Conv2d(3, 5, 3), nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=False))]
)
def test_a_model_without_gamma(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"model=.* has no BatchNorm with γ \(affine=True\)"):
        wrapped(model)


def test_a_step_before_any_forward_pass() -> None:
    optimizer = wrapped(network())
    with pytest.raises(
        StatisticsError,
        match=r"before any activation was seen behind BatchNorm \(2 layers, 0 of them in eval mode\): run the",
    ):
        optimizer.step()


def test_a_step_after_passes_that_do_not_count() -> None:
    model = network()
    optimizer = wrapped(model)
    with torch.no_grad():
        model(torch.rand(2, 3, 8, 8))
    train(model.eval())
    train(copy.deepcopy(model.train()))
    with pytest.raises(StatisticsError, match="in train mode, with gradients"):
        optimizer.step()


def test_a_later_step_without_images_warns_once() -> None:
    model = network()
    optimizer = wrapped(model)
    train(model)
    optimizer.step()
    before = model[1].weight.detach().clone()
    optimizer.zero_grad(set_to_none=False)
    with pytest.warns(UserWarning, match="no BatchNorm has seen images since the last step"):
        optimizer.step()
    optimizer.step()  # a second warning would be an error
    assert torch.equal(model[1].weight, before)


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize(
    ("selector", "named"),
    [("layer*", "'layer\\*'"), ("0", "'0'"), (lambda _name, _module: False, "<function .*>"), (nn.ReLU(), r"ReLU\(\)")],
)
def test_selectors_that_match_nothing(argument: str, selector: object, named: str) -> None:
    with pytest.raises(
        ArgumentError, match=rf"{argument}={named} matches no BatchNorm with γ: there are 2, such as"
    ) as caught:
        wrapped(network(), **{argument: selector})
    assert (caught.value.argument, caught.value.value) == (argument, selector)


def test_a_misspelt_name_is_answered_by_the_nearest() -> None:
    model = goctconv.create_model("csnet_x1")
    with pytest.raises(ValueError, match=r"such as .*stages\.0\.0\.norm1\.0"):
        DynamicWeightDecay(SGD(model.parameters(), 0.1), model, include="stages.0.0.norm.0")


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_selectors_of_another_kind(argument: str) -> None:
    with pytest.raises(TypeError, match=rf"{argument}=3 must be a module's name or glob"):
        wrapped(network(), **{argument: ["1", 3]})
    with pytest.raises(TypeError, match=rf"{argument}=3 must be"):
        wrapped(network(), **{argument: 3})
    with pytest.raises(ValueError, match=f"{argument}='' names no module"):
        wrapped(network(), **{argument: ""})
    with pytest.raises(TypeError, match=rf"{argument}=<class .*BatchNorm2d'> must be a module's .*: pass lambda name"):
        wrapped(network(), **{argument: nn.BatchNorm2d})


def test_excluding_everything() -> None:
    with pytest.raises(ValueError, match="leaves no BatchNorm to decay: exclude less"):
        wrapped(network(), exclude="*")


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), float("inf")])
def test_coefficients_that_cannot_be(value: float) -> None:
    with pytest.raises(ValueError, match=r"weight_decay=.* must be a number of at least 0: 3\.0 is published"):
        wrapped(network(), weight_decay=value)
    model = network()
    optimizer = wrapped(model)
    optimizer.param_groups[1]["dynamic_weight_decay"] = value
    train(model)
    with pytest.raises(
        ValueError, match=r"param_groups\[1\]\['dynamic_weight_decay'\]=.* must be a number of at least 0"
    ):
        optimizer.step()


@pytest.mark.parametrize("value", ["3", None, True])
def test_coefficients_that_are_no_numbers(value: object) -> None:
    with pytest.raises(TypeError, match=r"weight_decay=.* must be a number"):
        wrapped(network(), weight_decay=value)


def test_wrapping_twice() -> None:
    model = network()
    optimizer = wrapped(model)
    with pytest.raises(ValueError, match=r"optimizer=.* is a DynamicWeightDecay already: wrap it once"):
        DynamicWeightDecay(optimizer, model)
    with pytest.raises(ValueError, match=r"another optimizer decays '1', '3\.1' already: call its remove\(\) first"):
        wrapped(model)
    optimizer.remove()
    assert len(wrapped(model)._watch.layers) == 2


def test_two_wrappers_may_share_a_model() -> None:
    model = network()
    first, second = wrapped(model, include="1"), wrapped(model, exclude="1")
    train(model)
    first.step()
    second.step()
    assert (list(first.metrics()), list(second.metrics())) == (["1"], ["3.1"])
    assert (first.metrics()["1"].activation, second.metrics()["3.1"].activation) == ("2 (ReLU)", "its output")


def test_a_forgotten_wrapper_takes_its_hooks_along() -> None:
    model = network()
    wrapped(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    wrapped(model)


def test_parameters_that_were_replaced() -> None:
    model = network()
    optimizer = wrapped(model)
    model[1].weight = nn.Parameter(torch.ones(5))
    train(model)
    with pytest.raises(
        StatisticsError, match="γ of '1' is not the parameter that it was when the optimizer was wrapped"
    ):
        optimizer.step()


def test_parameters_that_left_the_optimizer() -> None:
    model = network()
    optimizer = wrapped(model)
    optimizer.param_groups.pop()
    train(model)
    with pytest.raises(StatisticsError, match="γ of '1' is in no param group any more"):
        optimizer.step()


def test_a_scheduler_that_was_attached_before() -> None:
    model = network()
    sgd = SGD(model.parameters(), 0.1)
    torch.optim.lr_scheduler.StepLR(sgd, 1)
    with pytest.raises(ValueError, match="wrap first, then attach the scheduler to the DynamicWeightDecay"):
        DynamicWeightDecay(sgd, model)


def test_arguments_of_other_kinds() -> None:
    model = network()
    sgd = SGD(model.parameters(), 0.1)
    with pytest.raises(TypeError, match="the optimizer comes first"):
        DynamicWeightDecay(model, sgd)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"optimizer=.* must be a torch\.optim\.Optimizer"):
        DynamicWeightDecay([], model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model=<generator.* must be a torch.nn.Module"):
        DynamicWeightDecay(sgd, model.parameters())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="use DistributedDataParallel"):
        DynamicWeightDecay(sgd, nn.DataParallel(model))
    with pytest.raises(ValueError, match="history=-1 must be an integer of at least 0"):
        DynamicWeightDecay(sgd, model, history=-1)


def test_sharded_parameters(tmp_path: Path) -> None:
    model = network()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        weight = torch.distributed.tensor.distribute_tensor(model[1].weight.detach(), mesh)
        model[1].weight = nn.Parameter(weight)
        with pytest.raises(TypeError, match=r"γ of '1' as a DTensor.* use DistributedDataParallel"):
            wrapped(model)
    finally:
        torch.distributed.destroy_process_group()


def test_metrics_that_cannot_be() -> None:
    with pytest.raises(
        ValueError, match=r"metric='gab' must be one of gap, abs_mean, rms, max, .* did you mean 'gap'\?"
    ):
        wrapped(network(), metric="gab")
    with pytest.raises(TypeError, match="metric=3 must be one of"):
        wrapped(network(), metric=3)
    model = network()
    wrapper = wrapped(model, metric=lambda activation: activation.mean())
    with pytest.raises(ValueError, match=r"metric=.* returned shape \(\) for the activation of '1' and 2 images"):
        train(model)
    assert len(wrapper._watch.layers) == 2


def test_costs_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"cost='mac' must be .* did you mean 'macs'\?"):
        wrapped(network(), cost="mac")
    with pytest.raises(TypeError, match="cost=3 must be"):
        wrapped(network(), cost=3)
    with pytest.raises(ValueError, match=r"cost=.* has no factor for 3\.1: give one for each of the 2 layers"):
        wrapped(network(), cost={"1": 2.0})
    with pytest.raises(ValueError, match=r"cost\['1'\]=-1 must be finite and not negative"):
        wrapped(network(), cost={"1": -1, "3.1": 1})


def test_a_layer_that_is_not_used_is_named_once() -> None:
    model = network()
    model.add_module("head", nn.Identity())
    model.head.spare = nn.BatchNorm2d(3)  # type: ignore[union-attr]
    optimizer = wrapped(model)
    train(model)
    with pytest.warns(UserWarning, match=r"no activation was seen behind 'head\.spare' since the last step"):
        optimizer.step()
    train(model)
    optimizer.step()
    assert list(optimizer.metrics()) == ["1", "3.1"]


def test_a_scale_without_gradient_is_named_once() -> None:
    model = network()
    model[1].weight.requires_grad_(False)
    optimizer = wrapped(model)
    train(model)
    with pytest.warns(UserWarning, match="γ of '1' has no gradient, so it was not decayed: it is frozen, or"):
        optimizer.step()
    train(model)
    optimizer.step()
    assert torch.equal(model[1].weight, torch.ones(5))


def test_ordinary_decay_on_top_is_named_once() -> None:
    model = network()
    optimizer = wrapped(model)
    optimizer.param_groups[1]["weight_decay"] = 0.1
    train(model)
    with pytest.warns(UserWarning, match=r"weight_decay=0\.1 of param group 1 decays γ a second time"):
        optimizer.step()
    train(model)
    optimizer.step()


def test_a_failed_forward_pass_teaches_nothing() -> None:
    """What follows a BatchNorm is only known at the end of a pass."""
    model = network()
    optimizer = wrapped(model)
    handle = model[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(torch.rand(2, 3, 8, 8))
    handle.remove()
    train(model)
    optimizer.step()
    assert optimizer.metrics()["1"].activation == "2 (ReLU)"
    assert optimizer.metrics()["1"].images == 2


def test_transforms_that_lose_layers() -> None:
    model = network()
    optimizer = wrapped(model, transform=lambda metrics: {"1": metrics["1"]})
    train(model)
    with pytest.raises(ValueError, match=r"transform=.* was given M of '3\.1' and did not return it: return"):
        optimizer.step()


def test_nothing_to_exclude_is_allowed() -> None:
    assert len(wrapped(network(), exclude=[])._watch.layers) == 2
    with pytest.raises(ValueError, match=r"include=\[\] names no module: leave it out, or name modules"):
        wrapped(network(), include=[])


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (3, TypeError, "transform=3 must be a function"),
        (lambda _: None, TypeError, r"returned None \(is a return missing\?\), expected a dict from layers to M"),
        (lambda metrics: {name: one[:1] for name, one in metrics.items()}, ValueError, r"returned \(1,\) for '1', exp"),
        (lambda metrics: dict.fromkeys(metrics, 1.0), ValueError, "returned float for '1', expected a tensor"),
    ],
)
def test_transforms_that_cannot_be(transform: object, error: type[Exception], message: str) -> None:
    model = network()

    def one_step() -> None:
        optimizer = wrapped(model, transform=transform)
        train(model)
        optimizer.step()

    with pytest.raises(error, match=message):
        one_step()


def test_other_options_that_cannot_be() -> None:
    model = network()
    with pytest.raises(TypeError, match="decoupled='yes' must be True or False"):
        wrapped(model, decoupled="yes")
    with pytest.raises(ValueError, match="decoupled=True needs a learning rate, but Rateless has no 'lr'"):
        DynamicWeightDecay(Rateless(model.parameters(), {}), model, decoupled=True)
    with pytest.raises(TypeError, match=r"weight_decay=<Tensor \(2,\)> must be a number"):
        wrapped(model, weight_decay=torch.ones(2))
    with pytest.raises(ValueError, match=r"cost=.* names '3\.2', which is none of the 2 .* did you mean '3\.1'\?"):
        wrapped(model, cost={"1": 1, "3.1": 1, "3.2": 1})


@pytest.mark.parametrize("threshold", [-1, float("nan"), "x"])
def test_a_threshold_that_is_none(threshold: object) -> None:
    with pytest.raises(ValueError, match=r"threshold=.* must be a number of at least 0"):
        wrapped(network()).sparsity(threshold)


def test_a_step_of_the_wrapped_optimizer_alone_warns_once() -> None:
    model = network()
    sgd = SGD(model.parameters(), 0.1)
    optimizer = DynamicWeightDecay(sgd, model)
    train(model)
    optimizer.step()
    with pytest.warns(UserWarning, match="the wrapped optimizer took a step by itself, so no γ was decayed"):
        sgd.step()
    sgd.step()
    train(model)
    optimizer.remove()
    optimizer.step()


def test_a_wrapper_that_is_dropped_is_missed() -> None:
    model = network()
    sgd = SGD(model.parameters(), 0.1)
    DynamicWeightDecay(sgd, model)
    train(model)
    with pytest.warns(UserWarning, match="the wrapped optimizer took a step by itself"):
        sgd.step()


def test_a_warning_points_to_the_caller() -> None:
    model = network()
    sgd = SGD(model.parameters(), 0.1)
    optimizer = DynamicWeightDecay(sgd, model)
    with pytest.warns(UserWarning, match="took a step by itself") as caught:
        sgd.step()
    train(model[:3])
    with pytest.warns(UserWarning, match="no activation was seen") as later:
        optimizer.step()
    assert {warning.filename for warning in (*caught, *later)} == {__file__}


def test_a_scheduler_of_another_kind_is_suspected() -> None:
    model = network()
    sgd = SGD(model.parameters(), 0.1)
    timm.scheduler.CosineLRScheduler(sgd, 10)
    with pytest.warns(UserWarning, match="the param groups have 'initial_lr', so a learning-rate scheduler may be"):
        DynamicWeightDecay(sgd, model)


def test_a_frozen_network_is_named() -> None:
    model = network()
    model[1].weight.requires_grad_(False)
    model[3][1].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"does not hold γ of '1', '3\.1' \(2 frozen, with requires_grad=False\)"):
        DynamicWeightDecay(SGD([one for one in model.parameters() if one.requires_grad], 0.1), model)


def test_a_layer_that_was_replaced() -> None:
    model = network()
    optimizer = wrapped(model)
    model[1] = nn.BatchNorm2d(5)
    train(model)
    with pytest.raises(StatisticsError, match="'1' is no longer a part of the model: it was replaced after"):
        optimizer.step()


def test_a_state_dict_for_other_layers() -> None:
    saved = wrapped(network(), include="1").state_dict()
    with pytest.raises(ValueError, match=r"state_dict=.* decays '1' where this optimizer decays '3\.1' \(1 and 1 lay"):
        wrapped(network(), include="3.1").load_state_dict(saved)
