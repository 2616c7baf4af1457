"""The spread of outputs among channels is that of a plain computation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import goctconv
from goctconv import ArgumentError
from goctconv.saliency import calibrate_batch_norm
from goctconv.study import measure_output_deviation
from reference.zoo.wiring import ThreeActivations

BATCH = torch.zeros(1, 3, 8, 8)


def lively(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return model


def expected(outputs: list[Tensor]) -> float:
    """M of every channel over all images, and its standard deviation, in plain loops."""
    images = [image for output in outputs for image in output.double()]
    metric = [sum(abs(float(image[c].mean())) for image in images) / len(images) for c in range(len(images[0]))]
    mean = sum(metric) / len(metric)
    return (sum((value - mean) ** 2 for value in metric) / len(metric)) ** 0.5


@torch.no_grad()
def test_it_is_the_spread_of_the_activations() -> None:
    model = lively(ThreeActivations())
    batches = [torch.rand(3, 3, 9, 7), torch.rand(2, 3, 9, 7)]
    found = measure_output_deviation(model, batches)
    seen = [model.eval().activations(batch) for batch in batches]
    assert list(found) == ["first", "second", "third"]
    for name, value in found.items():
        assert value == pytest.approx(expected([outputs[name] for outputs in seen]), rel=1e-5)


def test_the_model_stays_as_it_is() -> None:
    model = lively(ThreeActivations()).train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    measure_output_deviation(model, [torch.zeros(2, 3, 8, 8)])
    assert torch.initial_seed() == 1
    after_draw = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after_draw, torch.rand(1))
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_a_csnet_and_its_published_layers() -> None:
    model = goctconv.create_model("csnet_x1")
    batch = torch.rand(2, 3, 32, 32)
    calibrate_batch_norm(model, [batch])
    names = model.dynamic_decay_names()
    found = measure_output_deviation(model, [batch[:1]], layers=names)
    assert list(found) == names
    assert all(0 < value < 100 for value in found.values())
    norm, act = "stages.2.0.norm2.1", "stages.2.0.act2.1"
    seen = []
    handle = model.get_submodule(act).register_forward_hook(lambda *call: seen.append(call[2]))
    model.eval()(batch[:1])
    handle.remove()
    assert found[norm] == pytest.approx(expected(seen), rel=1e-5)


def test_one_image_and_other_networks_do() -> None:
    found = measure_output_deviation(timm.create_model("test_resnet").double(), [torch.rand(1, 3, 32, 32)])
    assert len(found) == 15


def test_layers_that_no_input_reaches_are_absent() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    model.unused = nn.BatchNorm2d(3)
    model.forward = model[0].forward  # type: ignore[method-assign]
    assert "unused" not in measure_output_deviation(model, [torch.rand(2, 3, 4, 4)])


@pytest.mark.parametrize(
    ("model", "batches", "options", "error", "message"),
    [
        (ThreeActivations(), BATCH, {}, TypeError, r"batches=<Tensor \(1, 3, 8, 8\)> must be several batches"),
        (3, [BATCH], {}, TypeError, "model=3 must be a torch.nn.Module"),
        (ThreeActivations(), [], {}, ValueError, r"batches=\[\] must be at least one tensor"),
        (ThreeActivations(), [BATCH], {"layers": ["act"]}, ValueError, "layers='act' must be the name of a BatchNorm"),
        (nn.Conv2d(3, 1, 1), [BATCH], {}, ValueError, "must be a network that has a BatchNorm with γ"),
    ],
)
def test_bad_input_is_named(
    model: Any, batches: Any, options: dict[str, Any], error: type[ArgumentError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        measure_output_deviation(model, batches, **options)
    assert isinstance(caught.value, ArgumentError)
