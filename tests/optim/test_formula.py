"""The gradient of every γ is that of the loss with the penalty ½·λ·Σ M·γ² in it, M a constant: autograd says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import goctconv
from goctconv import DynamicWeightDecay
from reference.zoo.chains import signals, volumes

COEFFICIENT = 3.0
TOLERANCE = 1e-10


class Case(NamedTuple):
    """A network, its input, and where the activation of a BatchNorm is, in the words of whoever knows the network.

    ``read`` returns the name of a module and a function of its output, by the BatchNorm's name.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    read: Callable[[str], tuple[str, Callable[[Tensor], Tensor]]]


def itself(output: Tensor) -> Tensor:
    return output


def in_csnet(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    return name.replace("norm", "act"), itself


def in_resnet(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    return (name.replace("bn1", "act1") if name.endswith("bn1") else name), itself


def in_norm_act(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """In timm's MobileNet and EfficientNet the BatchNorm applies its activation itself."""
    return name, itself


def in_densenet(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Every BatchNorm is followed by a module, and the last by a function."""
    return name, F.relu


def in_sequence(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    return {"1": ("2", itself), "4": ("4", itself), "7": ("8", itself)}[name]


CASES = {
    "csnet": Case(lambda: goctconv.create_model("csnet_x1"), (2, 3, 64, 64), in_csnet),
    "resnet18": Case(lambda: timm.create_model("resnet18"), (3, 3, 64, 64), in_resnet),
    "mobilenetv3": Case(lambda: timm.create_model("mobilenetv3_small_050"), (3, 3, 64, 64), in_norm_act),
    "efficientnet": Case(
        lambda: timm.create_model("efficientnet_b0", drop_rate=0, drop_path_rate=0), (3, 3, 64, 64), in_norm_act
    ),
    "densenet": Case(torchvision.models.densenet121, (2, 3, 64, 64), in_densenet),
    "1-d": Case(signals, (5, 3, 17), in_sequence),
    "3-d": Case(volumes, (3, 3, 11, 9, 10), in_sequence),
}


def gap(activation: Tensor) -> Tensor:
    """M, as spec and paper write it."""
    return torch.stack([image.reshape(len(image), -1).mean(1).abs() for image in activation]).mean(0)


def expected_gradients(
    case: Case, model: nn.Module, loss: Callable[[], Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the gradients of all parameters, and M by BatchNorm."""
    metrics: dict[str, Tensor] = {}
    handles = []
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    for name in norms:
        place, function = case.read(name)

        def keep(_m: nn.Module, _i: object, output: Tensor, name: str = name, function: object = function) -> None:
            metrics[name] = gap(function(output.detach().clone()))  # type: ignore[operator]

        handles.append(model.get_submodule(place).register_forward_hook(keep))
    value = loss()
    for handle in handles:
        handle.remove()
    penalty = sum((metrics[name] * norm.weight**2).sum() for name, norm in norms.items()) / 2
    gradients = torch.autograd.grad(value + COEFFICIENT * penalty, list(model.parameters()))
    return {name: one for (name, _), one in zip(model.named_parameters(), gradients, strict=True)}, metrics


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    case = CASES[name]
    model = case.make().double().train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.weight.uniform_(-1.3, 1.3)
                module.bias.normal_(0, 0.3)
    inputs = torch.randn(*case.shape, dtype=torch.float64)

    def loss() -> Tensor:
        output: Tensor = model(inputs)
        return (output * torch.arange(output.numel(), dtype=output.dtype).cos().view_as(output)).sum()

    gradients, metrics = expected_gradients(case, model, loss)
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.0), model, weight_decay=COEFFICIENT)
    for _ in range(2):  # the pass that finds the activations, and one that reads them
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        assert optimizer.metrics().keys() == metrics.keys()
        for layer, found in optimizer.metrics().items():
            assert found.images == case.shape[0]
            torch.testing.assert_close(found.metric, metrics[layer], rtol=TOLERANCE, atol=0)
        for parameter_name, parameter in model.named_parameters():
            expected = gradients[parameter_name]
            atol = TOLERANCE * float(expected.abs().max())
            torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=atol, msg=parameter_name)


def test_decay_is_not_lost_in_the_gradient() -> None:
    """The penalty is a noticeable part of what was compared above."""
    case = CASES["resnet18"]
    model = case.make().double().train()
    inputs = torch.randn(*case.shape, dtype=torch.float64)
    plain = torch.autograd.grad(model(inputs).square().mean(), [model.bn1.weight])[0]
    with_penalty, _ = expected_gradients(case, model, lambda: model(inputs).square().mean())
    assert (with_penalty["bn1.weight"] - plain).abs().max() > 0.1 * plain.abs().max()
