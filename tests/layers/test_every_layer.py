"""One checker for every layer and block: what a user may do to any PyTorch module, done to each of them.

A new class is one more entry of ``LAYERS``: how to make it, and the channels and strides of its inputs.
"""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from goctconv import (
    CrossStageGOctConv,
    FusionHead,
    GOctConv,
    ILBlock,
    OctConv,
    ParallelDilatedConv,
    PerScale,
    SelectScale,
    SimplifiedGOctConv,
)
from reference.compare import random_features, sizes_of
from reference.parameters import calibrate

if TYPE_CHECKING:
    from collections.abc import Callable

    Features = Tensor | tuple[Tensor, ...]


class Layer(NamedTuple):
    """How to make a layer from device and dtype, and what it takes."""

    make: Callable[..., nn.Module]
    channels: int | tuple[int, ...]
    reductions: tuple[int, ...] = (1, 2, 4)

    def features(self, size: tuple[int, int] = (24, 40), batch: int = 2, **options: Any) -> Features:
        """Noise of the right widths; by default of a size that every stride divides."""
        scales = 1 if isinstance(self.channels, int) else len(self.channels)
        return random_features(
            self.channels,
            sizes_of(size, self.reductions[:scales]),
            batch=batch,
            **({"dtype": torch.float32} | options),
        )

    def ready(self) -> nn.Module:
        """The layer in eval mode, its norms calibrated."""
        return calibrate(self.make(), self.features())


FEW_BRANCHES = ((2, 0, 0, 0, 4), (0, 3, 0, 4, 0))
BILINEAR = {"downsample": "bilinear"}
LAYERS = {
    "goctconv_image": Layer(lambda **to: GOctConv(3, (5, 7), 3, **to), 3),
    "goctconv": Layer(lambda **to: GOctConv((3, 5), (2, 7), 3, **to), (3, 5)),
    "goctconv_to_tensor": Layer(lambda **to: GOctConv((3, 5, 2), 7, 1, bias=False, **to), (3, 5, 2)),
    "goctconv_absent": Layer(lambda **to: GOctConv((3, 0, 5), (0, 7, 2), 3, **to), (3, 0, 5)),
    "goctconv_stride2": Layer(lambda **to: GOctConv((3, 5), (2, 7), 3, 2, **to), (3, 5)),
    "goctconv_bilinear": Layer(lambda **to: GOctConv((3, 5), (2, 7), 3, **BILINEAR, **to), (3, 5)),
    "goctconv_reflect": Layer(lambda **to: GOctConv((3, 5), (2, 7), 3, padding_mode="reflect", **to), (3, 5)),
    "simplified": Layer(lambda **to: SimplifiedGOctConv((3, 5), 3, **to), (3, 5)),
    "simplified_scaled": Layer(lambda **to: SimplifiedGOctConv((3, 0, 5), 3, weight_scale=100.0, **to), (3, 0, 5)),
    "il_block_vanilla": Layer(lambda **to: ILBlock((3, 5), (2, 7), 3, 2, simplified=False, **to), (3, 5)),
    "cross_stage": Layer(
        lambda **to: CrossStageGOctConv((3, 5, 2), 7, in_reductions=(2, 4, 8), out_reductions=(4,), **to),
        (3, 5, 2),
        (2, 4, 8),
    ),
    "cross_stage_bilinear": Layer(
        lambda **to: CrossStageGOctConv((3, 5), (2, 7), in_reductions=(4, 8), out_reductions=(4, 8), **BILINEAR, **to),
        (3, 5),
        (4, 8),
    ),
    "octconv_image": Layer(lambda **to: OctConv(3, 8, 3, alpha_in=0, **to), 3),
    "octconv": Layer(lambda **to: OctConv(8, 12, 3, **to), (4, 4)),
    "octconv_to_tensor": Layer(lambda **to: OctConv(8, 5, 3, alpha_out=0, **to), (4, 4)),
    "per_scale": Layer(lambda **to: PerScale(lambda width: nn.BatchNorm2d(width, **to), (3, 0, 5)), (3, 0, 5)),
    "per_scale_of_tensor": Layer(lambda **to: PerScale(lambda width: nn.PReLU(width, **to), 3), 3),
    "per_scale_of_any_width": Layer(lambda **to: PerScale(lambda _: nn.PReLU(**to), (3, 0, 5)), (3, 0, 5)),
    "select_scale": Layer(lambda **_: SelectScale(1), (3, 5)),
    "il_block": Layer(lambda **to: ILBlock((3, 5), (2, 7), **to), (3, 5)),
    "il_block_image": Layer(lambda **to: ILBlock(3, (2, 7), 3, **to), 3),
    "il_block_stride2_to_tensor": Layer(lambda **to: ILBlock((3, 5), 7, 3, 2, **to), (3, 5)),
    "parallel_dilated": Layer(lambda **to: ParallelDilatedConv((6, 0, 5), **to), (6, 0, 5)),
    "parallel_dilated_of_tensor": Layer(lambda **to: ParallelDilatedConv(7, (1, 0, 2, 3, 1), bias=True, **to), 7),
    "fusion_head": Layer(
        lambda **to: FusionHead((3, 5), (6, 7), FEW_BRANCHES, in_reductions=(2, 4), **to), (3, 5), (2, 4)
    ),
    "fusion_head_bilinear": Layer(
        lambda **to: FusionHead((3, 5), (6, 7), FEW_BRANCHES, in_reductions=(4, 8), **BILINEAR, **to), (3, 5), (4, 8)
    ),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
COMPILED = {"goctconv", "cross_stage", "il_block_image", "fusion_head"}  # the others are compiled in the slow tests
every_layer_compiled = pytest.mark.parametrize(
    "layer",
    [pytest.param(layer, marks=[] if name in COMPILED else pytest.mark.slow) for name, layer in LAYERS.items()],
    ids=LAYERS,
)


def as_list(features: Features) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)


def convert(features: Features, **options: Any) -> Features:
    if isinstance(features, Tensor):
        return features.to(**options)
    return tuple(x.to(**options) for x in features)


def assert_close(actual: Features, expected: Features, tolerance: float = 0.0) -> None:
    """Same kind, shapes and dtypes; values within ``tolerance`` of each scale's largest (0: the same bits)."""
    assert type(actual) is type(expected)
    for a, b in zip(as_list(actual), as_list(expected), strict=True):
        largest = b.detach().abs().max().item() if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("size", [(24, 40), (23, 37), (17, 29), (8, 8)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@every_layer
def test_forward(layer, batch, size):
    module = layer.ready()
    features = layer.features(size, batch)
    before = [x.clone() for x in as_list(features)]
    outputs = module(features)
    assert type(outputs) in {Tensor, tuple}
    assert all(torch.equal(x, y) for x, y in zip(as_list(features), before, strict=True))
    for output in as_list(outputs):
        assert output.shape[0] == batch
        assert output.dtype == torch.float32
        assert output.isfinite().all()
    assert any(output.numel() for output in as_list(outputs))
    assert_close(module(features), outputs)


@every_layer
def test_widths_are_those_of_the_features(layer):
    module, features = layer.ready(), layer.features()
    if isinstance(module, SelectScale):
        return
    assert module.in_widths == tuple(x.shape[1] for x in as_list(features))
    assert module.out_widths == tuple(x.shape[1] for x in as_list(module(features)))
    assert {type(width) for width in (*module.in_widths, *module.out_widths)} == {int}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@every_layer
def test_backward_reaches_everything(layer, training):
    """Every parameter and every input that can change the output gets a gradient, finite and not all zero."""
    module = layer.ready().train(training)
    # odd and small would leave dilated taps in the padding alone: their gradient is rightly zero
    features = convert(layer.features((56, 72)), dtype=torch.float64)
    module.double()
    leaves = [x.requires_grad_() for x in as_list(features)]
    outputs = module(features)
    sum((x * torch.randn_like(x)).sum() for x in as_list(outputs)).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    selected = [leaves[1]] if isinstance(module, SelectScale) else [x for x in leaves if x.numel()]
    for leaf in selected:
        assert leaf.grad.isfinite().all()
        assert leaf.grad.any()


@every_layer
def test_type_does_not_depend_on_mode(layer):
    module, features = layer.ready(), layer.features()
    evaluated = module.eval()(features)
    trained = module.train()(features)
    assert type(trained) is type(evaluated)
    assert [x.shape for x in as_list(trained)] == [x.shape for x in as_list(evaluated)]


@every_layer
def test_deepcopy(layer):
    module, features = layer.ready(), layer.features()
    twin = copy.deepcopy(module)
    assert_close(twin(features), module(features))
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in module.parameters()}
    assert repr(twin) == repr(module)


@every_layer
def test_pickle(layer):
    module, features = layer.ready(), layer.features()
    assert_close(pickle.loads(pickle.dumps(module))(features), module(features))  # noqa: S301  # our own bytes


@every_layer
def test_state_dict_round_trip(layer):
    module, features = layer.ready(), layer.features()
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    other = layer.make().eval()
    if list(other.parameters()):
        before = [p.detach().clone() for p in other.parameters()]
        assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())
    assert_close(other(features), module(features))


@every_layer
def test_same_seed_same_layer(layer, seed):
    torch.manual_seed(seed)
    first = layer.make().state_dict()
    torch.manual_seed(seed)
    second = layer.make().state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_layer
def test_convolution_weights_are_contiguous(layer):
    weights = [m.weight for m in layer.make().modules() if isinstance(m, nn.Conv2d)]
    assert all(weight.is_contiguous() and weight.numel() for weight in weights)


@every_layer
def test_double(layer):
    module, features = layer.ready(), layer.features()
    single = module(features)
    double = copy.deepcopy(module).double()(convert(features, dtype=torch.float64))
    assert {x.dtype for x in as_list(double)} == {torch.float64}
    assert_close(convert(double, dtype=torch.float32), single, 3e-6)


@every_layer
def test_made_in_a_dtype_is_converted_to_it(layer):
    made = layer.make(dtype=torch.float64)
    assert {t.dtype for t in made.state_dict().values() if t.is_floating_point()} <= {torch.float64}
    assert {x.dtype for x in as_list(made(layer.features(dtype=torch.float64)))} == {torch.float64}
    half = layer.ready().to(torch.bfloat16)
    outputs = half(layer.features(dtype=torch.bfloat16))
    assert {x.dtype for x in as_list(outputs)} == {torch.bfloat16}
    assert all(x.isfinite().all() for x in as_list(outputs))


@every_layer
def test_meta_device(layer):
    """Made on the meta device, materialised, and loaded: the way large models are made."""
    module, features = layer.ready(), layer.features()
    skeleton = layer.make(device="meta")
    assert {t.device.type for t in skeleton.state_dict().values()} <= {"meta"}
    shapes = skeleton.eval()(convert(features, device="meta"))
    assert [x.shape for x in as_list(shapes)] == [x.shape for x in as_list(module(features))]
    skeleton.to_empty(device="cpu").load_state_dict(module.state_dict())
    assert_close(skeleton(features), module(features))


@every_layer
def test_channels_last(layer):
    module = layer.ready()
    features = layer.features()
    expected = module(features)
    module = module.to(memory_format=torch.channels_last)
    last = convert(features, memory_format=torch.channels_last)
    outputs = module(last)
    assert_close(outputs, expected, 1e-5)
    for output in as_list(outputs):
        if output.numel():
            assert output.is_contiguous(memory_format=torch.channels_last)


@every_layer
def test_autocast(layer):
    module, features = layer.ready(), layer.features()
    expected = module(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(features)
    assert_close(convert(outputs, dtype=torch.float32), expected, 0.1)
    convolves = any(isinstance(m, nn.Conv2d) for m in module.modules())
    normalises = any(isinstance(m, nn.PReLU) for m in module.modules())
    if convolves and not normalises:
        assert torch.bfloat16 in {x.dtype for x in as_list(outputs)}


@every_layer_compiled
def test_compile(layer):
    """One graph, for a first size and, with what torch then makes dynamic, for another."""
    torch.compiler.reset()
    module = layer.ready()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for size, batch in (((24, 40), 2), ((19, 29), 3)):
            features = layer.features(size, batch)
            assert_close(compiled(features), module(features), 1e-5)


@every_layer_compiled
def test_compile_trains(layer):
    torch.compiler.reset()
    module, features = layer.ready().train(), layer.features()
    twin = copy.deepcopy(module)
    leaves = [[x.clone().requires_grad_() for x in as_list(features)] for _ in range(2)]
    for run, own in zip((module, torch.compile(twin, fullgraph=True, backend="aot_eager")), leaves, strict=True):
        outputs = run(own[0] if isinstance(features, Tensor) else tuple(own))
        sum(x.square().sum() for x in as_list(outputs)).backward()
    for (name, a), b in zip(module.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-4 * a.grad.abs().max().item(), msg=name)
    for (name, a), b in zip(module.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@every_layer
def test_export(layer):
    """Equal but for rounding: eager averages are taken by rows first, exported ones by squares."""
    module, features = layer.ready(), layer.features()
    program = torch.export.export(module, (features,))
    assert_close(program.module()(features), module(features), 1e-6)
    exact = torch.utils._pytree.tree_map(lambda x: x.double(), features)
    module = module.double()
    program = torch.export.export(module, (exact,))
    assert_close(program.module()(exact), module(exact), 1e-15 * 4)


@every_layer
def test_export_with_dynamic_sizes(layer):
    """Any batch, and any size that every stride divides."""
    module, features = layer.ready(), layer.features()
    batch = torch.export.Dim("batch", min=1, max=64)
    height, width = (torch.export.Dim(name, min=2, max=512) for name in ("height", "width"))
    scales = len(as_list(features))
    coarsest = 2 * 4 * 2  # more than one octave beyond the inputs, and a stride
    steps = [coarsest * layer.reductions[0] // reduction for reduction in layer.reductions[:scales]]
    shapes = [{0: batch, 2: step * height, 3: step * width} for step in steps]
    dynamic = (shapes[0],) if isinstance(features, Tensor) else (tuple(shapes),)
    features = layer.features((48, 80))
    program = torch.export.export(module, (features,), dynamic_shapes=dynamic)
    for size, images in (((48, 80), 2), ((32, 64), 1), ((96, 32), 3)):
        other = layer.features(size, images)
        assert_close(program.module()(other), module(other), 1e-6)


@every_layer
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_symbolic_trace(layer, training):
    """The graph of torch.fx holds every convolution, and takes any sizes that the layer takes."""
    module, features = layer.ready().train(training), layer.features()
    graph = torch.fx.symbolic_trace(copy.deepcopy(module))
    convs = {name for name, child in module.named_modules() if type(child) is nn.Conv2d}
    assert convs <= {node.target for node in graph.graph.nodes if node.op == "call_module"}
    for given in (features, layer.features((32, 48), 3)):
        assert_close(graph(given), module(given), 1e-5)
