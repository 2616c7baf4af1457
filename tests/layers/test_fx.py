"""torch.fx: networks of this package's layers are traced, taken apart and quantized as networks of PyTorch's own."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, fx, nn

import goctconv
from goctconv import GOctConv, ILBlock, ParallelDilatedConv, PerScale, PReLU, SelectScale
from goctconv.layers import ScaleLayer
from reference.parameters import calibrate

MODELS = {"test_csnet": "test_csnet", "test_csf_resnet": "test_csf_resnet", "test_scfnet": "test_scfnet"}


class Network(nn.Module):
    """Features of two scales between an image and a map, with functions between the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = GOctConv(3, (8, 6), 3)
        self.norm = PerScale(nn.BatchNorm2d, (8, 6))
        self.act = PerScale(PReLU, (8, 6))
        self.block = ILBlock((8, 6), (8, 6), 3, weight_scale=1.0)
        self.dilated = ParallelDilatedConv((8, 6), weight_scale=1.0)
        self.gather = GOctConv((8, 6), (5, 0), 1)
        self.select = SelectScale(0)

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(image)))
        x = tuple(a + b for a, b in zip(x, self.block(x), strict=True))
        return self.select(self.gather(self.dilated(x)))


class LeafTracer(fx.Tracer):
    """Keeps this package's layers whole, so that what flows between them is one proxy of a tuple."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ScaleLayer) or super().is_leaf_module(m, module_qualified_name)


def network() -> nn.Module:
    torch.manual_seed(0)
    return calibrate(Network(), torch.randn(4, 3, 24, 40))


def images() -> list[Tensor]:
    return [torch.randn(2, 3, 24, 40), torch.randn(1, 3, 33, 29)]


def test_network_of_several_layers():
    model = network()
    graph = fx.symbolic_trace(model)
    for image in images():
        torch.testing.assert_close(graph(image), model(image))


def test_a_layer_between_layers_that_are_kept_whole():
    model = nn.Sequential(GOctConv(3, (8, 6), 3), ILBlock((8, 6), (8, 6), 3), SelectScale(1)).eval()
    graph = fx.GraphModule(model, LeafTracer().trace(model))
    kept = {node.target for node in graph.graph.nodes if node.op == "call_module"}
    assert {"0", "1.conv1", "1.norm1", "1.act1"} <= kept
    for image in images():
        torch.testing.assert_close(graph(image), model(image))


def test_a_traced_network_trains_and_is_pruned():
    model = network()
    graph = fx.symbolic_trace(copy.deepcopy(model)).train()
    graph(images()[0]).square().mean().backward()
    assert all(parameter.grad is not None for parameter in graph.parameters())
    image = torch.randn(1, 3, 24, 40)
    removed = [
        goctconv.prune_channels(traced.eval(), image, ratio=0.4, groups=True).report.removed
        for traced in (graph, fx.symbolic_trace(copy.deepcopy(model)), model)
    ]
    assert removed[1] == removed[2] > 5
    assert removed[0] > 5


def test_wrong_features_are_refused_as_before():
    with pytest.raises(TypeError, match="a plain tensor of 3 channels, not a tuple"):
        GOctConv(3, 4, 3)((torch.rand(1, 3, 8, 8),))


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def quantized(model: nn.Module, image: Tensor) -> fx.GraphModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated, and its observers warn of themselves
        quantization = pytest.importorskip("torch.ao.quantization.quantize_fx")
        mapping = pytest.importorskip("torch.ao.quantization").get_default_qconfig_mapping()
        prepared = quantization.prepare_fx(copy.deepcopy(model), mapping, (image,))
        with torch.no_grad():
            for _ in range(3):
                prepared(torch.randn_like(image))
        return quantization.convert_fx(prepared)


def test_quantization():
    model = network()
    image = torch.randn(2, 3, 24, 40)
    integer = quantized(model, image)
    kinds = {name: type(module).__module__ for name, module in integer.named_modules()}
    convs = [name for name, module in model.named_modules() if type(module) is nn.Conv2d]
    assert convs
    assert all("quantized" in kinds[name] for name in convs)
    with torch.no_grad():
        assert relative(integer(image), model(image)) < 0.2
        assert integer(torch.randn(1, 3, 33, 29)).shape == (1, 5, 33, 29)


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    torch.manual_seed(0)
    model = goctconv.create_model(name)
    model = calibrate(model, torch.randn(2, 3, 64, 64))
    graph = fx.symbolic_trace(model)
    with torch.no_grad():
        for size in ((64, 64), (67, 83)):
            image = torch.randn(1, 3, *size)
            expected = model(image)
            torch.testing.assert_close(graph(image), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_are_quantized(name):
    torch.manual_seed(0)
    model = calibrate(goctconv.create_model(name), torch.randn(2, 3, 64, 64))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert quantized(model, image)(image).shape == model(image).shape


def test_a_deployed_network_says_what_to_trace():
    deployed = goctconv.deploy(nn.Sequential(GOctConv(3, 4, 3)).eval(), example_inputs=torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="trace the one it was made from"):
        fx.symbolic_trace(deployed)
