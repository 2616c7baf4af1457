"""Bad input: each error names what was wrong and what helps, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.ao.nn.quantized import Conv2d as QuantizedConv2d
from torch.nn.utils import prune

import goctconv
from goctconv.pruning import PruningError, plan_pruning, prune_channels
from reference.zoo.chains import two_convolutions as network
from reference.zoo.outputs import Returning

EXAMPLE = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "threshold=None, ratio=None: give one of them"),
        ({"threshold": 1e-3, "ratio": 0.2}, ValueError, r"threshold=0.001, ratio=0.2: give one of them"),
        ({"threshold": -1.0}, ValueError, r"threshold=-1.0 must be a number of at least 0"),
        ({"threshold": float("nan")}, ValueError, r"threshold=nan must be a number of at least 0"),
        ({"threshold": "1e-20"}, TypeError, r"threshold='1e-20' must be a number"),
        ({"ratio": 1.0}, ValueError, r"ratio=1.0 must be a number of at least 0 and below 1: pass a share of channels"),
        ({"ratio": True}, TypeError, r"ratio=True must be a number"),
        ({"ratio": 0.5, "scope": "net"}, ValueError, "scope='net' must be one of None, 'global', 'layer'"),
        ({"ratio": 0.5, "max_ratio": 1.5}, ValueError, r"max_ratio=1.5 must be a number from 0 to 1"),
        ({"ratio": 0.5, "max_ratio": "half"}, TypeError, r"max_ratio='half' must be a number from 0 to 1"),
        ({"ratio": 0.5, "bn_bias": "drop"}, ValueError, "bn_bias='drop' must be one of 'keep', 'zero'"),
        ({"ratio": 0.5, "round_to": 0}, ValueError, "round_to=0 must be an integer of at least 1"),
        ({"ratio": 0.5, "round_to": 2.5}, TypeError, "round_to=2.5 must be an integer"),
        ({"ratio": 0.5, "min_channels": 0}, ValueError, "min_channels=0 must be an integer of at least 1"),
        ({"ratio": 0.5, "min_channels": True}, TypeError, "min_channels=True must be an integer"),
        ({"ratio": 0.5, "criterion": "gamm"}, ValueError, "criterion='gamm' .* did you mean 'gamma'"),
        ({"ratio": 0.5, "criterion": 3}, TypeError, "criterion=3 must be one of gamma, .* or a function"),
        (
            {"ratio": 0.5, "keep": "head"},
            ValueError,
            "keep='head' matches no BatchNorm with γ: there are 1, such",
        ),
        ({"ratio": 0.5, "keep": [nn.Linear(1, 1)]}, ValueError, r"keep=Linear\(.*\) matches no BatchNorm"),
        ({"ratio": 0.5, "keep": 3}, TypeError, "keep=3 must be a module's name or glob"),
        (
            {"ratio": 0.5, "criterion": lambda _: None},
            TypeError,
            "criterion=None must be a function that returns a dict of scores",
        ),
        (
            {"ratio": 0.5, "criterion": lambda _: {}},
            ValueError,
            "criterion={} was returned by the function: it has no scores",
        ),
        (
            {"ratio": 0.5, "criterion": lambda _: {"bn": torch.rand(8)}},
            ValueError,
            "was returned by the function: 'bn' is no BatchNorm",
        ),
        (
            {"ratio": 0.5, "criterion": lambda _: {"1": torch.rand(7)}},
            ValueError,
            r"the score of '1' is \(7,\), expected a tensor \(8,\)",
        ),
        (
            {"ratio": 0.5, "criterion": lambda _: {"1": torch.full((8,), float("nan"))}},
            ValueError,
            "the score of '1' has 8 values that are NaN",
        ),
    ],
)
@pytest.mark.parametrize("call", [plan_pruning, prune_channels])
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str, call: Callable[..., Any]) -> None:
    with pytest.raises(error, match=message):
        call(network(), EXAMPLE, **arguments)


@pytest.mark.parametrize(
    ("example", "error", "message"),
    [
        (torch.randn(1, 4, 9, 9), PruningError, r"does not run on example_inputs of shape \(1, 4, 9, 9\) .*channels"),
        (torch.randn(1, 3, 2, 2), PruningError, r"does not run on example_inputs of shape \(1, 3, 2, 2\)"),
        (
            torch.randn(1, 3, 9, 9).double(),
            PruningError,
            r"does not run on example_inputs .*pass what it is called with",
        ),
        (torch.empty(1, 3, 9, 9, device="meta"), PruningError, "example_inputs are on meta, the model is on cpu"),
        ("image.png", TypeError, "example_inputs='image.png' must be a tensor, a tuple of arguments, a dict"),
        ((), TypeError, r"example_inputs=\(\) must be a tensor, a tuple"),
        ([EXAMPLE, 2.0], TypeError, r"example_inputs=.* must be a tensor, .*, or a list of such calls: pass \(a, b\)"),
        (np.zeros((1, 3, 9, 9)), TypeError, "example_inputs=<ndarray .* must be a tensor"),
        (EXAMPLE * float("nan"), ValueError, "example_inputs=<Tensor .* has values that are NaN or infinite"),
        (EXAMPLE[:0], ValueError, r"example_inputs=.* has a tensor \(0, 3, 9, 11\) without elements"),
        ({"y": EXAMPLE}, PruningError, "does not run on example_inputs .*unexpected keyword argument 'y'"),
    ],
)
def test_example_inputs(example: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_pruning(network(), example, ratio=0.5)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.BatchNorm2d(8))


def quantized() -> nn.Module:
    return nn.Sequential(QuantizedConv2d(3, 8, 3), nn.BatchNorm2d(8))


def not_a_number() -> nn.Module:
    model = network()
    model[0].weight.data[1, 2] = float("nan")
    return model


def infinite_statistics() -> nn.Module:
    model = network()
    model[1].running_var[3] = float("inf")
    return model


def masked_by_torch(path: str) -> nn.Module:
    model = network()
    prune.random_unstructured(model.get_submodule(path), "weight", amount=0.5)
    return model


def frozen_norms() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), torchvision.ops.FrozenBatchNorm2d(4))


def without_values() -> nn.Module:
    return network().to("meta")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 3, 3), PruningError, "Conv2d has no BatchNorm with γ"),
        (
            lambda: nn.Sequential(nn.BatchNorm2d(3, affine=False)),
            PruningError,
            "Sequential has no BatchNorm with γ",
        ),
        (lambda: torch.relu, TypeError, "model=<built-in .* must be a torch.nn.Module"),
        (lambda: torch.jit.script(network()), PruningError, "TorchScript module.*prune the model before scripting"),
        (lazy, PruningError, "0 has no weights yet: run the model once before"),
        (quantized, PruningError, "0 is quantized: prune the model before quantizing it"),
        (not_a_number, PruningError, "0.weight has 9 values that are NaN or infinite: load weights"),
        (infinite_statistics, PruningError, "1.running_var has 1 values that are NaN or infinite"),
        (lambda: masked_by_torch("1"), PruningError, "Sequential has no BatchNorm with γ"),
        (frozen_norms, PruningError, "no BatchNorm with γ .*; 1 is frozen, .* put a BatchNorm2d in place of it"),
        (without_values, PruningError, "on the meta device: load them first"),
        (lambda: Returning(network(), lambda *_: "text"), PruningError, "Returning returns no tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
def test_models(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prune_channels(make(), EXAMPLE, ratio=0.5)


def test_a_model_that_cannot_be_copied() -> None:
    class Unique:
        def __deepcopy__(self, memo: object) -> None:
            raise NotImplementedError("there is one of me")

    class Stubborn(nn.Sequential):
        unique: Unique | None = None

        def __deepcopy__(self, memo: object) -> None:
            raise NotImplementedError("there is one of me")

    model = Stubborn(*network())
    assert prune_channels(model, EXAMPLE, ratio=0.5).report.removed > 0  # copied as PyTorch does
    model.unique = Unique()
    with pytest.raises(PruningError, match=r"Stubborn cannot be copied \(NotImplementedError: there is one of me\)"):
        prune_channels(model, EXAMPLE, ratio=0.5)


def test_a_layer_that_would_vanish_keeps_min_channels() -> None:
    for least in (1, 3):
        result = prune_channels(network(), EXAMPLE, threshold=10.0, min_channels=least)
        layer = result.report.layers["1"]
        assert (layer.channels, layer.masked, layer.removed, layer.left) == (8, 8, 8 - least, least)
        assert len(layer.held) == least
        assert all("min_channels" in str(reason) for reason in layer.held.values())


def test_a_model_that_puts_out_no_number() -> None:
    """An untrained CSNet overflows in eval mode: there is nothing to compare."""
    model = goctconv.create_model("csnet_x1")
    with pytest.raises(
        PruningError, match="CSNet puts out no finite number on the example, so nothing could be compared"
    ):
        prune_channels(model, torch.rand(1, 3, 64, 64), threshold=1e-20)
