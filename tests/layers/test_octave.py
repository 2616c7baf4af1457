"""Networks whose convolutions become octave ones: equal where all width is fine, cheaper and whole where it is not."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import goctconv
from goctconv import ArgumentError, GOctConv
from goctconv.layers import octave
from reference.parameters import calibrate
from reference.small_networks import SMALL_NETWORKS, Head, UNet, step

SIZE, ODD = (48, 64), (37, 51)
every_network = pytest.mark.parametrize("name", SMALL_NETWORKS)


def networks(*fast: str) -> pytest.MarkDecorator:
    """Every network, the others where slow tests run."""
    marks = {name: () if name in fast else pytest.mark.slow for name in SMALL_NETWORKS}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in marks.items()])


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = SMALL_NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return calibrate(model, image(4))


def image(batch: int = 2, size: tuple[int, int] = SIZE, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, *size).to(dtype)


def operations(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.detach().abs().max()))


@every_network
def test_all_width_at_the_finest_scale_is_the_original(name):
    model = network(name)
    converted = octave(model, image(), alpha=(0, 0) if name == "unet" else 0)
    for x in (image(), image(1, ODD)):
        with torch.no_grad():
            assert_same(converted(x), model(x))
    learning = copy.deepcopy(model).train(), converted.train()
    x = image(4)
    outputs = []
    for net in learning:
        torch.manual_seed(1)  # of dropout
        outputs.append(net(x))
    assert_same(outputs[1], outputs[0], 1e-5)


@every_network
def test_half_coarse_costs_less_and_any_size_runs(name):
    check_coarse(name, 0.5)


@pytest.mark.parametrize("alpha", [(0.25, 0.25), 1.0], ids=str)
@networks("unet")
def test_other_shares(name, alpha):
    check_coarse(name, alpha)


def check_coarse(name: str, alpha: float | tuple[float, ...]) -> None:
    model = network(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    converted = octave(model, image(), alpha=alpha)
    assert operations(converted, image()) < 0.8 * operations(model, image())
    for size in (SIZE, ODD, (38, 54), (33, 33), (64, 31), (17, 19)):
        x = image(1, size)
        with torch.no_grad():
            assert converted(x).shape == model(x).shape
            assert converted(x).isfinite().all()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert sum(p.numel() for p in converted.parameters()) <= sum(p.numel() for p in model.parameters())


@networks("resnet", "unet")
def test_it_trains(name):
    converted = octave(network(name).train(), image())
    assert converted.training
    x, target = image(4), torch.randn_like(converted(image(4)))
    optimizer = torch.optim.Adam(converted.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.mse_loss(converted(x), target)
        loss.backward()
        assert all(parameter.grad is not None for parameter in converted.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@networks("mobilenet", "unet")
def test_copies_and_state(name):
    model, x = network(name), image()
    converted = octave(model, x)
    with torch.no_grad():
        expected = converted(x)
        assert torch.equal(copy.deepcopy(converted)(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(converted))(x), expected)  # noqa: S301  # our own bytes
        buffer = io.BytesIO()
        torch.save(converted.state_dict(), buffer)
        buffer.seek(0)
        torch.manual_seed(7)
        other = octave(SMALL_NETWORKS[name]().eval(), x)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(other(x), expected)


@networks("densenet", "unet")
def test_it_is_pruned_exactly(name):
    converted = octave(network(name), image()).double()
    x = image(2, SIZE, torch.float64)
    result = goctconv.prune_channels(converted, x, ratio=0.4, groups=True)
    assert result.report.removed > (0 if name == "resnext" else 5)
    masked = result.plan.mask(copy.deepcopy(converted))
    for y in (x, image(1, ODD, torch.float64)):
        with torch.no_grad():
            assert_same(result.model(y), masked(y), 1e-12)


@pytest.mark.parametrize("scale", [0, 1])
def test_a_scale_can_be_pruned_away(scale):
    converted = octave(network("vgg"), image()).double()
    for module in (converted.bn1, converted.bn2):
        nn.init.constant_(module.get_submodule(str(scale)).weight, 1e-6)
        nn.init.constant_(module.get_submodule(str(scale)).bias, 0.3)
    x = image(2, SIZE, torch.float64)
    result = goctconv.prune_channels(converted, x, threshold=1e-3)
    assert min(result.model.bn1.in_widths[scale], result.model.conv1.out_widths[scale]) <= 1
    masked = result.plan.mask(copy.deepcopy(converted))
    for y in (x, image(1, ODD, torch.float64)):
        with torch.no_grad():
            assert_same(result.model(y), masked(y), 1e-12)


@networks("resnet")
def test_dynamic_weight_decay_finds_every_scale(name):
    converted = octave(network(name).train(), image())
    optimizer = goctconv.DynamicWeightDecay(torch.optim.SGD(converted.parameters(), 0.01), converted)
    converted(image(4)).square().mean().backward()
    optimizer.step()
    norms = {key for key, module in converted.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) > 2
    assert set(optimizer.metrics()) == norms


@networks("unet")
def test_export(name):
    converted, x = octave(network(name), image()), image()
    program = torch.export.export(converted, (x,))
    with torch.no_grad():
        assert_same(program.module()(x), converted(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_export_with_dynamic_sizes(name):
    converted, x = octave(network(name), image()), image()
    batch, height, width = torch.export.Dim("batch", min=1, max=64), *map(torch.export.Dim, ("height", "width"))
    program = torch.export.export(converted, (x,), dynamic_shapes=({0: batch, 2: 16 * height, 3: 16 * width},))
    with torch.no_grad():
        for y in (x, image(1, (32, 96))):
            assert_same(program.module()(y), converted(y), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_compile(name):
    torch.compiler.reset()
    converted = octave(network(name), image())
    compiled = torch.compile(converted, fullgraph=True, backend="aot_eager")
    for x in (image(), image(3, (32, 32))):
        with torch.no_grad():
            assert_same(compiled(x), converted(x), 1e-5)


@networks("unet")
def test_symbolic_trace(name):
    converted = octave(network(name), image())
    graph = torch.fx.symbolic_trace(converted)
    for x in (image(), image(3, ODD)):
        with torch.no_grad():
            assert_same(graph(x), converted(x), 1e-5)


@pytest.mark.slow
@every_network
def test_onnx(name, tmp_path):
    converted, x = octave(network(name), image()), image()
    with torch.no_grad():
        assert_same(run_by_onnx(converted, x, tmp_path / "octave.onnx"), converted(x), 1e-4)


def run_by_onnx(model: nn.Module, x: Tensor, path: Path) -> Tensor:
    runtime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path)
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(actual)


def test_deployed():
    converted, x = octave(network("resnet"), image()), image()
    with torch.no_grad():
        assert_same(goctconv.deploy(converted, example_inputs=x)(x), converted(x), 1e-4)


# Weights


def test_paths_are_those_of_an_octave_convolution():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1), nn.Conv2d(10, 4, 1))
    converted = octave(model, image())
    layer = converted.get_submodule("1")
    reference = GOctConv((4, 4), (5, 5), 3, downsample="avg", upsample="nearest")
    reference.load_state_dict(layer.state_dict())
    whole = model[1].weight
    for key, (rows, columns) in {"0_to_1": ((5, 10), (0, 4)), "1_to_0": ((0, 5), (4, 8))}.items():
        assert torch.equal(layer.paths[key].weight, whole[slice(*rows), slice(*columns)])
    features = torch.randn(2, 4, 24, 32), torch.randn(2, 4, 12, 16)
    for actual, expected in zip(layer(features), reference(features), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("alpha", [0.5, (0.25, 0.5)], ids=str)
def test_an_image_of_one_colour_gives_the_same_away_from_the_border(alpha):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.ReLU()]
    model = calibrate(nn.Sequential(*layers, nn.MaxPool2d(2), nn.Conv2d(8, 5, 3, padding=1)), image())
    x = torch.rand(1, 3, 1, 1).expand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(octave(model, x, alpha=alpha)(x)[..., 12, 12], model(x)[..., 12, 12])


def test_groups_stay_whole():
    converted = octave(network("resnext"), image())
    layer = converted.get_submodule("2.0")
    assert layer.in_widths == (9, 6)
    assert layer.out_widths == (6, 4)
    assert {key: conv.groups for key, conv in layer.paths.items()} == {"0_to_0": 3, "1_to_1": 2}
    assert not any("SplitChannels" in type(module).__name__ for module in converted.modules())


def test_scales_go_through_functions():
    kinds = [type(module).__name__ for module in octave(network("densenet"), image()).modules()]
    assert kinds.count("PooledScales") == 1
    assert kinds.count("JoinedScales") == 1  # before the prediction


def test_a_depthwise_output_has_full_resolution():
    model = nn.Sequential(step(3, 8), step(8, 8, groups=8), nn.Upsample(scale_factor=2, recompute_scale_factor=True))
    converted = octave(model.append(step(8, 8, 3, groups=8)).eval(), image())
    assert type(converted.get_submodule("3.0")) is nn.Conv2d
    assert len(converted.get_submodule("1.0").paths) == 2
    assert converted(image(1, ODD)).shape == (1, 8, 74, 102)


@pytest.mark.parametrize("keep", [(), "first"], ids=["alike", "plain and not"])
def test_a_norm_that_is_used_at_two_places_stays_one(keep):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.norm, self.head = nn.BatchNorm2d(8), Head(16)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.first(x))
            x = torch.cat([x, self.norm(self.second(x))], 1)
            return self.head(x)

    model = Twice().eval()
    with torch.no_grad():
        assert_same(octave(model, image(), alpha=0, keep=keep)(x := image(1, ODD)), model(x))
    assert len([m for m in octave(model, image(), keep=keep).modules() if isinstance(m, nn.BatchNorm2d)]) == 1 + (
        not keep
    )


def test_the_output_has_full_resolution():
    layer = octave(UNet().eval(), image()).predict
    assert layer.in_widths == (4, 4)
    assert layer.out_channels == 2


def test_dropout_follows_the_mode():
    converted = octave(network("vgg"), image())
    x = image()
    with torch.no_grad():
        assert torch.equal(converted(x), converted(x))
        converted.train()
        assert not torch.equal(converted(x), converted(x))


def test_modules_that_stay():
    model = network("resnet")
    converted = octave(model, image(), keep=["0", "3.conv2"])
    assert type(converted.get_submodule("0.0")) is nn.Conv2d
    assert type(converted.get_submodule("3.conv2")) is nn.Conv2d
    assert type(converted.get_submodule("3.conv1")) is not nn.Conv2d
    assert converted(image(1, ODD)).shape == (1, 5)


@pytest.mark.parametrize(
    "choose", [lambda _: "3.c*2", lambda m: m[3].conv2, lambda _: lambda name, _: name == "3.conv2"]
)
def test_modules_that_stay_by_globs_modules_and_functions(choose):
    model = network("resnet")
    converted = octave(model, image(), keep=choose(model))
    assert type(converted.get_submodule("3.conv2")) is nn.Conv2d
    assert type(converted.get_submodule("3.conv1")) is not nn.Conv2d


def test_a_layer_that_is_used_twice_keeps_one_weight():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv, self.head = step(3, 8), nn.Conv2d(8, 8, 3, padding=1), Head(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(torch.tanh(self.conv(self.first(x))))
            return self.head(x)

    model = Twice().eval()
    converted = octave(model, image())
    assert len(converted.conv.paths) == 4
    assert len(list(converted.parameters())) == len(list(model.parameters())) + 1 + 2 + 4


def test_tied_weights_stay_tied():
    model = nn.Sequential(step(3, 8), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), Head(8)).eval()
    model[3].weight = model[1].weight
    converted = octave(model, image())
    assert converted.get_submodule("3").weight is converted.get_submodule("1").weight


class Untraceable(nn.Module):
    """Decides by the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_stays_with_a_warning():
    model = nn.Sequential(step(3, 8), Untraceable(), step(8, 8), Head(8)).eval()
    with pytest.warns(goctconv._checks.ArgumentWarning, match="module='1' of Untraceable stays as it is"):
        converted = octave(model, image())
    with torch.no_grad():
        assert converted(image(1, ODD)).shape == (1, 5)


class Options(nn.Module):
    """Has a second argument, which is a switch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = Head(8)

    def forward(self, x: Tensor, scale: Tensor | None = None, *, double: bool = False) -> Tensor:
        x = self.conv(x if scale is None else x * scale)
        return self.head(x + x if double else x)


def test_optional_arguments():
    model = Options().eval()
    with torch.no_grad():
        x, scale = image(), torch.rand(2, 3, 1, 1)
        assert_same(octave(model, x, alpha=0)(x), model(x))
        assert_same(octave(model, (x, scale), alpha=0)(x, scale), model(x, scale))


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, r"alpha=1.5 must be a number from 0 to 1.*: for several scales pass a tuple"),
        ({"alpha": "0.5"}, "alpha='0.5' must be a number from 0 to 1"),
        ({"alpha": (0.5, 2)}, r"alpha=\(0.5, 2\) must be a number from 0 to 1"),
        ({"alpha": (0.5, 0.6)}, "sum to at most 1"),
        ({"keep": "layer9"}, "keep='layer9' matches no module: there are"),
        ({"keep": ["conv*", nn.Conv2d(1, 1, 1)]}, r"keep=Conv2d\(.*\) matches no module"),
        ({"keep": ""}, "keep='' names no module"),
        ({"keep": None}, "keep=None must be a module's name or glob, a module, or a function"),
        ({"downsample": "bilinear"}, "downsample='bilinear' must be one of 'avg', 'max'"),
        ({"upsample": "cubic"}, "upsample='cubic' must be one of"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        octave(network("vgg"), image(), **arguments)


def test_networks_that_cannot_be_converted():
    with pytest.raises(ArgumentError, match=r"Untraceable.*torch.fx cannot trace.*convert the part of it"):
        octave(Untraceable(), image())
    with pytest.raises(ArgumentError, match=r"must be a network with a torch\.nn\.Conv2d"):
        octave(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(1, 3, 2, 2))
    reflecting = nn.Sequential(step(3, 8), nn.Conv2d(8, 8, 5, padding=2, padding_mode="reflect"), nn.MaxPool2d(2))
    with pytest.raises(ArgumentError, match=r"does not run on the example with coarse scales: 1 raised ScaleError"):
        octave(reflecting.eval(), image(1, (4, 4)))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (None, "example_inputs=None must be a tensor"),
        (
            [image()],
            r"example_inputs=<list> of shape \(2, 3, 48, 64\) does not run .* \(TypeError: conv2d.*: pass what",
        ),
        (torch.rand(1, 4, 48, 64), r"example_inputs=<Tensor \(1, 4, 48, 64\)> does not run .* to have 3 channels"),
        (torch.rand(3, 48, 64), r"a batch of images \(B, C, H, W\), or a tuple"),
        ((image(), image()), r"of shape \(2, 3, 48, 64\), \(2, 3, 48, 64\) does not run"),
    ],
    ids=["none", "list", "channels", "one image", "two arguments"],
)
def test_examples_that_the_network_does_not_take(example, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        octave(network("vgg"), example)
    assert isinstance(caught.value, TypeError) == (not isinstance(example, Tensor | tuple))
    assert "tlparse" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated", "ignore:.torch.jit.*not supported")
def test_wrapped_and_scripted_networks():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 2))
    assert type(octave(nn.DataParallel(model), torch.rand(1, 3, 4, 4)).get_submodule("0")) is not nn.Conv2d
    with pytest.raises(TypeError, match="is compiled by TorchScript: pass the network that it was made of"):
        octave(torch.jit.script(model), torch.rand(1, 3, 4, 4))


# Networks of others

BIG = {
    "timm/resnet50": 0.5,
    "timm/mobilenetv2_100": 0.6,
    "torchvision/mobilenet_v2": 0.6,
    "torchvision/vgg16_bn": 0.5,
    "smp/resnet18": 0.5,
    "timm/efficientnet_b0": 0.7,
}


def big_network(name: str) -> nn.Module:
    package, _, model = name.partition("/")
    torch.manual_seed(0)
    if package == "timm":
        return pytest.importorskip("timm").create_model(model)
    if package == "smp":
        return pytest.importorskip("segmentation_models_pytorch").Unet(model, encoder_weights=None)
    return pytest.importorskip("torchvision").models.get_model(model, weights=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", BIG)
def test_networks_of_others(name):
    model, x = big_network(name).eval(), image(2, (96, 96))
    fine, coarse = octave(model, x, alpha=0), octave(model, x)
    assert operations(coarse, x) < BIG[name] * operations(model, x)
    odd = image(1, (79, 101)) if "smp" not in name else image(1, (96, 160))
    with torch.no_grad():
        for y in (x, odd):
            assert_same(fine(y), model(y))
            assert coarse(y).shape == model(y).shape
    coarse.train()
    optimizer = torch.optim.SGD(coarse.parameters(), 0.01)
    target, losses = torch.zeros_like(coarse(x)), []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.mse_loss(coarse(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    result = goctconv.prune_channels(coarse.eval().double(), x[:1].double(), ratio=0.2, groups=True)
    masked = result.plan.mask(copy.deepcopy(coarse))
    with torch.no_grad():
        assert_same(result.model(odd.double()), masked(odd.double()), 1e-12)
    assert result.report.removed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/resnet50", "torchvision/mobilenet_v2", "torchvision/vgg16_bn", "smp/resnet18"])
def test_networks_of_others_are_exported(name, tmp_path):
    x = image(1, (64, 96))
    converted = octave(calibrate(big_network(name), image(4, (64, 64))).eval(), x)
    slim = goctconv.prune_channels(converted, x, ratio=0.2, groups=True).model
    for model in (converted, slim):
        with torch.no_grad():
            expected = model(x)
            assert_same(torch.export.export(model, (x,)).module()(x), expected, 1e-5)
            assert_same(run_by_onnx(model, x, tmp_path / "octave.onnx"), expected, 1e-4)
