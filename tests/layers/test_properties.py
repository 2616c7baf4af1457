"""What holds for every GOctConv, whatever its widths, sizes and options."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goctconv import CrossStageGOctConv, GOctConv, ParallelDilatedConv, SimplifiedGOctConv
from reference import octave
from reference.compare import as_arrays, assert_features_equal, random_features, sizes_of
from reference.parameters import path_biases, path_weights, scale_biases, scale_weights

pytestmark = [
    # torch says this about every even kernel with padding "same": it pads a copy
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


class Drawn(NamedTuple):
    """A layer's widths and options, and features to feed it."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: int | tuple[int, int]
    options: dict[str, Any]
    sizes: list[tuple[int, int]]
    seed: int

    def layer(self, *, bias: bool = True) -> GOctConv:
        torch.manual_seed(self.seed)
        return GOctConv(self.inputs, self.outputs, self.kernel, bias=bias, dtype=torch.float64, **self.options)

    def features(self, batch: int = 2) -> tuple[torch.Tensor, ...]:
        return random_features(self.inputs, self.sizes, batch=batch)


def widths(groups: int = 1) -> st.SearchStrategy[tuple[int, ...]]:
    """Up to four scales, some of them absent."""
    lists = st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any)
    return lists.map(lambda drawn: tuple(groups * width for width in drawn))


@st.composite
def drawn_layers(draw: st.DrawFn, downsamples: tuple[str, ...] = ("max", "avg", "bilinear")) -> Drawn:
    groups, stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    inputs, outputs = draw(widths(groups)), draw(widths(groups))
    downsample = draw(st.sampled_from(downsamples))
    options = {
        "stride": stride,
        "dilation": draw(st.sampled_from([1, 2, (2, 1)])),
        "groups": groups,
        "downsample": downsample,
        "upsample": draw(st.sampled_from(["bilinear", "nearest"])),
        "padding_mode": draw(st.sampled_from(["zeros", "replicate"])),
    }
    pixel = stride * 2 ** (max(len(inputs), len(outputs)) - 1)
    edge = st.integers(pixel, pixel + 7)
    sizes = sizes_of((draw(edge), draw(edge)), [2**scale for scale in range(len(inputs))])
    if downsample == "bilinear":
        extra = st.integers(0, 2)
        sizes = [sizes[0], *((height + draw(extra), width + draw(extra)) for height, width in sizes[1:])]
    kernel = draw(st.sampled_from([1, 2, 3, (3, 1)]))
    return Drawn(inputs, outputs, kernel, options, sizes, draw(st.integers(0, 2**32)))


@examples(200)
@given(drawn_layers(), st.booleans())
def test_equals_oracle(drawn, bias):
    layer = drawn.layer(bias=bias)
    features = drawn.features()
    expected = octave.goctconv(
        as_arrays(features), path_weights(layer), path_biases(layer), drawn.outputs, **drawn.options
    )
    assert_features_equal(layer(features), expected)


@examples(80)
@given(st.data())
def test_cross_stage_equals_oracle(data):
    """Any strides, with gaps on either side."""
    strides = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4, unique=True).map(sorted)
    ins, outs = data.draw(strides), data.draw(strides)
    width = st.integers(0, 3)
    inputs = data.draw(st.tuples(*[width] * len(ins)).filter(any))
    outputs = data.draw(st.tuples(*[width] * len(outs)).filter(any))
    options = {"downsample": data.draw(st.sampled_from(["max", "avg", "bilinear"]))}
    torch.manual_seed(data.draw(st.integers(0, 2**32)))
    layer = CrossStageGOctConv(inputs, outputs, in_reductions=ins, out_reductions=outs, dtype=torch.float64, **options)
    features = random_features(inputs, sizes_of((data.draw(st.integers(8, 15)), data.draw(st.integers(8, 15))), ins))
    reductions = {"in_reductions": ins, "out_reductions": outs}
    expected = octave.goctconv(
        as_arrays(features), path_weights(layer), path_biases(layer), outputs, **reductions, **options
    )
    assert_features_equal(layer(features), expected)


@examples(50)
@given(drawn_layers(), st.sampled_from([1.0, 100.0]))
def test_simplified_equals_oracle(drawn, weight_scale):
    options = {name: drawn.options[name] for name in ("stride", "dilation", "padding_mode")}
    options["weight_scale"] = weight_scale
    torch.manual_seed(drawn.seed)
    layer = SimplifiedGOctConv(drawn.inputs, drawn.kernel, dtype=torch.float64, **options)
    features = drawn.features()
    weights, biases = scale_weights(layer.convs), scale_biases(layer.convs)
    assert_features_equal(layer(features), octave.simplified(as_arrays(features), weights, biases, **options))


@examples(80)
@given(drawn_layers(("avg", "bilinear")), st.floats(-2, 2), st.floats(-2, 2))
def test_linear_without_bias_and_max(drawn, a, b):
    layer = drawn.layer(bias=False)
    x, y = drawn.features(), drawn.features()
    mixed = layer(tuple(a * left + b * right for left, right in zip(x, y, strict=True)))
    for output, left, right in zip(mixed, layer(x), layer(y), strict=True):
        torch.testing.assert_close(output, a * left + b * right, rtol=0, atol=1e-12)


@examples(50)
@given(drawn_layers(("max",)), st.floats(0, 2))
def test_max_is_positively_homogeneous(drawn, factor):
    layer, x = drawn.layer(bias=False), drawn.features()
    for output, once in zip(layer(tuple(factor * level for level in x)), layer(x), strict=True):
        torch.testing.assert_close(output, factor * once, rtol=0, atol=1e-12)


@examples(80)
@given(drawn_layers())
def test_images_do_not_meet(drawn):
    layer, x = drawn.layer(), drawn.features(batch=3)
    together = layer(x)
    for image in range(3):
        alone = layer(tuple(level[image : image + 1] for level in x))
        for output, single in zip(together, alone, strict=True):
            torch.testing.assert_close(output[image : image + 1], single, rtol=0, atol=1e-13)


@examples(50)
@given(drawn_layers(), st.data())
def test_absent_input_equals_zeros(drawn, data):
    """A scale that is not there is one that gives nothing, wherever the bias may live."""
    full = drawn._replace(inputs=tuple(width or drawn.options["groups"] for width in drawn.inputs))
    gone = data.draw(st.sets(st.sampled_from(range(len(full.inputs))), max_size=len(full.inputs) - 1))
    slim = drawn._replace(inputs=tuple(0 if i in gone else width for i, width in enumerate(full.inputs)))
    large, small, features = full.layer(), slim.layer(), full.features()
    biases = path_biases(large)
    with torch.no_grad():
        for name, path in small.paths.items():
            path.weight.copy_(large.paths[name].weight)
            if path.bias is not None:
                path.bias.copy_(torch.from_numpy(biases[int(name.split("_to_")[1])]))
    zeroed = tuple(torch.zeros_like(x) if i in gone else x for i, x in enumerate(features))
    empty = tuple(x[:, :0] if i in gone else x for i, x in enumerate(features))
    for output, expected in zip(small(empty), large(zeroed), strict=True):
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-13)


@examples(80)
@given(drawn_layers())
def test_outputs_do_not_depend_on_each_other(drawn):
    """Taking away all outputs but one leaves that one as it was."""
    layer, features = drawn.layer(), drawn.features()
    together = layer(features)
    for j, width in enumerate(drawn.outputs):
        if not width:
            continue
        alone = drawn._replace(outputs=tuple(w if k == j else 0 for k, w in enumerate(drawn.outputs))).layer()
        kept = {name: value for name, value in layer.state_dict().items() if f"_to_{j}." in name}
        alone.load_state_dict(kept)
        assert torch.equal(alone(features)[j], together[j])


@examples(80)
@given(drawn_layers())
def test_output_sizes(drawn):
    outputs = drawn.layer()(drawn.features())
    stride = drawn.options["stride"]
    finest = [edge // stride for edge in drawn.sizes[0]]
    for j, output in enumerate(outputs):
        if drawn.options["downsample"] == "bilinear" and j < len(drawn.sizes):
            expected = [edge // stride for edge in drawn.sizes[j]]
        else:
            expected = [edge // 2**j for edge in finest]
        assert output.shape == (2, drawn.outputs[j], *expected)


@examples(50)
@given(drawn_layers(), st.booleans())
def test_parameters_are_those_of_one_convolution(drawn, bias):
    layer = drawn.layer(bias=bias)
    kernel = (drawn.kernel, drawn.kernel) if isinstance(drawn.kernel, int) else drawn.kernel
    weights = sum(drawn.inputs) * sum(drawn.outputs) // drawn.options["groups"] * kernel[0] * kernel[1]
    assert sum(p.numel() for p in layer.parameters()) == weights + bias * sum(drawn.outputs)


@examples(50)
@given(st.data())
def test_parallel_dilated_equals_oracle(data):
    branch = st.lists(st.integers(0, 2), min_size=3, max_size=3)
    branches = data.draw(st.lists(branch, min_size=1, max_size=3).filter(lambda drawn: any(map(any, drawn))))
    inputs = tuple(3 if any(widths) else data.draw(st.sampled_from([0, 3])) for widths in branches)
    dilations = data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=3))
    torch.manual_seed(data.draw(st.integers(0, 2**32)))
    layer = ParallelDilatedConv(inputs, branches, dilations=dilations, dtype=torch.float64)
    features = random_features(inputs, [(7, 11), (5, 3), (2, 13)][: len(inputs)])
    weights = {
        (int(scale), int(index)): convolution.weight.detach().numpy()
        for scale, convolutions in layer.branches.items()
        for index, convolution in convolutions.items()
    }
    assert set(weights) == {(s, d) for s, row in enumerate(branches) for d, width in enumerate(row) if width}
    assert_features_equal(layer(features), octave.parallel_dilated(as_arrays(features), weights, dilations=dilations))
