"""GOctConv equals its oracle, and draws its weights as one convolution would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import nn

from goctconv import GOctConv
from reference import octave
from reference.compare import as_arrays, assert_equal, assert_features_equal, random_features, sizes_of
from reference.parameters import path_biases, path_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    Features = Tensor | tuple[Tensor, ...]

BILINEAR = {"downsample": "bilinear"}
VANILLA = {"downsample": "avg", "upsample": "nearest"}


class Case(NamedTuple):
    """Arguments of one layer and the size of its finest input."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: int | tuple[int, int] = 3
    options: dict[str, Any] = {}  # noqa: RUF012  # never changed
    size: tuple[int, int] = (17, 23)


CASES = {
    "plain_convolution": Case((3,), (5,)),
    "plain_5x5": Case((3,), (5,), 5),
    "two_to_two": Case((3, 7), (5, 2)),
    "two_to_two_1x1": Case((3, 7), (5, 2), 1),
    "two_to_two_5x5": Case((3, 7), (5, 2), 5),
    "two_to_two_3x1": Case((3, 7), (5, 2), (3, 1)),
    "two_to_two_2x2": Case((3, 7), (5, 2), 2),
    "one_to_two": Case((3,), (5, 7)),
    "one_to_four": Case((3,), (5, 7, 2, 1)),
    "two_to_one": Case((3, 7), (5,)),
    "two_to_three": Case((3, 7), (5, 2, 1)),
    "three_to_three": Case((3, 5, 7), (2, 11, 1), 1),
    "three_to_one": Case((3, 5, 7), (11,)),
    "four_to_two": Case((2, 3, 5, 7), (11, 1)),
    "four_to_four": Case((2, 3, 5, 7), (7, 5, 3, 2)),
    "absent_fine_input": Case((0, 5), (3, 2)),
    "absent_middle_input": Case((3, 0, 5), (2, 7, 1)),
    "absent_coarse_input": Case((3, 0), (2, 7)),
    "absent_fine_output": Case((3, 5), (0, 2)),
    "absent_middle_output": Case((3, 5, 2), (7, 0, 1)),
    "absent_both_ends": Case((0, 5, 0), (3, 0, 0)),
    "absent_crossed": Case((3, 0), (0, 2)),
    "stride2_one": Case((3,), (5, 2), 3, {"stride": 2}),
    "stride2_two": Case((3, 7), (5, 2), 3, {"stride": 2}),
    "stride2_three_odd": Case((3, 5, 2), (2, 0, 7), 1, {"stride": 2}, (31, 29)),
    "dilation": Case((3, 7), (5, 2), 3, {"dilation": 2}),
    "dilation_pair": Case((3, 7), (5, 2), (3, 5), {"dilation": (3, 2)}),
    "groups": Case((4, 6), (2, 10), 3, {"groups": 2}),
    "groups_absent": Case((6, 0, 9), (3, 12), 1, {"groups": 3}),
    "padding_int": Case((3, 7), (5, 2), 3, {"padding": 1}),
    "padding_pair": Case((3, 7), (5, 2), (5, 3), {"padding": (4, 1), "dilation": (2, 1)}),
    "padding_valid_1x1": Case((3, 7), (5, 2), 1, {"padding": "valid"}),
    "reflect": Case((3, 7), (5, 2), 3, {"padding_mode": "reflect"}),
    "reflect_explicit": Case((3, 7), (5, 2), 3, {"padding_mode": "reflect", "padding": 1}),
    "replicate": Case((3, 7), (5, 2), 5, {"padding_mode": "replicate"}),
    "circular": Case((3, 7), (5, 2), 3, {"padding_mode": "circular", "dilation": 2}),
    "avg_nearest": Case((3, 7), (5, 2), 3, VANILLA),
    "avg_nearest_three": Case((3, 5, 7), (2, 11, 1), 3, VANILLA, (19, 23)),
    "avg_nearest_stride2": Case((3, 7), (5, 2), 3, VANILLA | {"stride": 2}),
    "avg_bilinear": Case((3, 7), (5, 2), 3, {"downsample": "avg"}),
    "max_nearest": Case((3, 7), (5, 2), 3, {"upsample": "nearest"}),
    "bilinear": Case((3, 7), (5, 2), 3, BILINEAR),
    "bilinear_three": Case((3, 5, 7), (2, 11, 1), 3, BILINEAR, (19, 23)),
    "bilinear_nearest": Case((3, 7), (5, 2), 1, BILINEAR | {"upsample": "nearest"}),
    "bilinear_stride2": Case((3, 7), (5, 2), 3, BILINEAR | {"stride": 2}),
    "bilinear_new_scale": Case((3, 7), (5, 2, 1), 3, BILINEAR),
    "smallest": Case((3, 5, 7), (2, 11, 1), 3, {}, (4, 7)),
}
# torch says this about every even kernel with padding "same": it pads a copy
even_kernel = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


def halves(channels: Sequence[int], size: tuple[int, int]) -> list[tuple[int, int]]:
    return sizes_of(size, [2**i for i in range(len(channels))])


def expected_of(layer: GOctConv, outputs: Sequence[int], features: Features, **options: Any) -> list[np.ndarray]:
    weights, biases = path_weights(layer), path_biases(layer)
    return octave.goctconv(as_arrays(features), weights, biases, outputs, **options)


@even_kernel
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_oracle(case, bias, dtype):
    layer = GOctConv(case.inputs, case.outputs, case.kernel, bias=bias, dtype=dtype, **case.options)
    features = random_features(case.inputs, halves(case.inputs, case.size), dtype=dtype)
    assert_features_equal(layer(features), expected_of(layer, case.outputs, features, **case.options))
    assert set(path_biases(layer)) == {j for j, width in enumerate(case.outputs) if width and bias}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "sizes",
    [[(17, 23), (9, 12), (5, 6)], [(17, 23), (8, 11), (4, 5)], [(13, 19), (11, 17), (7, 2)], [(5, 3)] * 3],
    ids=["rounded_up", "rounded_down", "unrelated", "all_alike"],
)
@pytest.mark.parametrize("inputs", [(3, 5, 7), (3, 0, 7), (0, 5, 0)], ids=str)
def test_bilinear_takes_sizes_as_they_come(inputs, sizes, stride):
    if stride == 2:
        sizes = [(2 * height + 1, 2 * width) for height, width in sizes]
    outputs = (2, 1, 11)
    layer = GOctConv(inputs, outputs, 3, stride, downsample="bilinear", dtype=torch.float64)
    features = random_features(inputs, sizes)
    result = layer(features)
    assert_features_equal(result, expected_of(layer, outputs, features, stride=stride, downsample="bilinear"))
    assert [tuple(x.shape[2:]) for x in result] == [(h // stride, w // stride) for h, w in sizes]


@pytest.mark.parametrize("in_channels", [3, (3,), (3, 2)], ids=str)
@pytest.mark.parametrize("out_channels", [5, (5,), (5, 7)], ids=str)
def test_type_of_channels_is_type_of_data(in_channels, out_channels):
    layer = GOctConv(in_channels, out_channels, 3, dtype=torch.float64)
    widths = (in_channels,) if isinstance(in_channels, int) else in_channels
    features = random_features(in_channels, halves(widths, (17, 23)))
    expected = expected_of(layer, (out_channels,) if isinstance(out_channels, int) else out_channels, features)
    if isinstance(out_channels, int):
        assert_equal(layer(features), expected[0])
    else:
        assert_features_equal(layer(features), expected)


def test_list_of_channels_is_a_tuple():
    layer = GOctConv([3, 2], [5, 7], 1, dtype=torch.float64)
    features = random_features((3, 2), [(7, 11), (3, 5)])
    assert_features_equal(layer(features), expected_of(layer, (5, 7), features))


def test_empty_output_has_its_size():
    outputs = GOctConv((3, 2), (0, 5, 0), 3)(random_features((3, 2), [(17, 23), (8, 11)], dtype=torch.float32))
    assert [tuple(x.shape) for x in outputs] == [(2, 0, 17, 23), (2, 5, 8, 11), (2, 0, 4, 5)]


@pytest.mark.parametrize("options", [{}, VANILLA, BILINEAR, {"stride": 2}], ids=str)
def test_bias_is_added_once(options):
    layer = GOctConv((3, 0, 5), (2, 7, 1), 3, **options)
    biases = path_biases(layer)
    for path in layer.paths.values():
        nn.init.zeros_(path.weight)
    outputs = layer(random_features((3, 0, 5), [(17, 23), (8, 11), (4, 5)], dtype=torch.float32))
    for scale, output in enumerate(outputs):
        expected = torch.as_tensor(biases[scale], dtype=torch.float32)[:, None, None].expand_as(output)
        torch.testing.assert_close(output, expected)


def test_one_scale_is_conv2d():
    layer, reference = GOctConv(6, 4, 3, dilation=2, groups=2), nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2)
    (path,) = layer.paths.values()
    reference.load_state_dict(path.state_dict())
    x = torch.randn(2, 6, 13, 17)
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=0)


def test_paths_are_convolutions():
    layer = GOctConv((3, 0, 5), (2, 7, 0), (3, 1), dilation=(2, 1))
    assert set(layer.paths) == {"0_to_0", "0_to_1", "2_to_0", "2_to_1"}
    for name, path in layer.paths.items():
        source, target = map(int, name.split("_to_"))
        assert type(path) is nn.Conv2d
        assert path.weight.shape == ((2, 7)[target], (3, 0, 5)[source], 3, 1)
        assert path.weight.is_contiguous()
        assert path.stride == (1, 1)
        assert path.dilation == (2, 1)
    assert {key.rsplit(".", 1)[0] for key in layer.state_dict()} == {f"paths.{name}" for name in layer.paths}
    assert sum(p.numel() for p in layer.parameters()) == 8 * 9 * 3 + 9


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
def test_paths_keep_padding_mode(padding_mode):
    layer = GOctConv((3, 2), 5, 3, padding_mode=padding_mode)
    assert {path.padding_mode for path in layer.paths.values()} == {padding_mode}


def as_one_convolution(layer: GOctConv, inputs: Sequence[int], outputs: Sequence[int]) -> tuple[Tensor, Tensor]:
    rows = [
        torch.cat([layer.paths[f"{i}_to_{j}"].weight for i, width in enumerate(inputs) if width], dim=1)
        for j, width in enumerate(outputs)
        if width
    ]
    biases = [torch.as_tensor(bias) for _, bias in sorted(path_biases(layer).items())]
    return torch.cat(rows), torch.cat(biases) if biases else torch.empty(0)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, (3, 1)])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [((6, 10), (4, 12)), ((2, 0, 6), (0, 10, 4)), ((4,), (20, 34)), ((8, 30, 4), (2,))]
)
def test_reset_parameters_draws_as_one_convolution(inputs, outputs, kernel, bias, groups, seed):
    layer = GOctConv(inputs, outputs, kernel, bias=bias, groups=groups)
    torch.manual_seed(seed)
    expected = nn.Conv2d(sum(inputs), sum(outputs), kernel, groups=groups, bias=bias)
    after = torch.rand(1)
    torch.manual_seed(seed)
    layer.reset_parameters()
    assert torch.equal(torch.rand(1), after)
    weight, biases = as_one_convolution(layer, inputs, outputs)
    assert torch.equal(weight, expected.weight)
    if bias:
        torch.testing.assert_close(biases.float(), expected.bias, rtol=0, atol=0)


def test_construction_draws_as_one_convolution(seed):
    torch.manual_seed(seed)
    layer = GOctConv((6, 10), (4, 12), 3)
    torch.manual_seed(seed)
    expected = nn.Conv2d(16, 16, 3)
    assert torch.equal(as_one_convolution(layer, (6, 10), (4, 12))[0], expected.weight)


def test_extra_repr_hides_defaults():
    plain = GOctConv((3, 2), (5, 7), 3).extra_repr()
    for hidden in ("stride", "dilation", "groups", "bias", "padding", "downsample", "upsample"):
        assert hidden not in plain
    for shown in ("(3, 2)", "(5, 7)", "kernel_size"):
        assert shown in plain
    other = GOctConv(
        (4, 2),
        (6, 8),
        3,
        2,
        dilation=2,
        groups=2,
        bias=False,
        padding_mode="reflect",
        downsample="avg",
        upsample="nearest",
    ).extra_repr()
    for shown in (
        "stride",
        "dilation",
        "groups=2",
        "bias=False",
        "padding_mode=",
        "reflect",
        "avg",
        "nearest",
    ):
        assert shown in other


def test_extra_repr_shows_other_padding():
    assert "padding" in GOctConv(3, 5, 3, padding=0).extra_repr()


@pytest.mark.parametrize("padding", [0, 2, (1, 3), "valid"])
def test_one_scale_may_change_size(padding):
    layer, reference = GOctConv(3, 5, 3, padding=padding), nn.Conv2d(3, 5, 3, padding=padding)
    reference.load_state_dict(layer.paths["0_to_0"].state_dict())
    x = torch.randn(2, 3, 13, 17)
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=0)


def test_sequential():
    net = nn.Sequential(GOctConv(3, (4, 2), 3), GOctConv((4, 2), (0, 5, 1), 1, 2), GOctConv((0, 5, 1), 7, 1))
    assert net(torch.randn(2, 3, 19, 23)).shape == (2, 7, 9, 11)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, VANILLA, BILINEAR, {"padding_mode": "reflect"}, {"groups": 2}], ids=str
)
def test_gradcheck(options):
    layer = GOctConv((2, 4), (2, 2), 3, dtype=torch.float64, **options)
    size = (8, 9) if "stride" in options else (4, 5)
    features = random_features((2, 4), sizes_of(size, (1, 2)), batch=1)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, tensors[2:], strict=True))
        return torch.func.functional_call(layer, parameters, (tuple(tensors[:2]),))

    inputs = [tensor.detach().clone().requires_grad_() for tensor in (*features, *values)]
    assert torch.autograd.gradcheck(run, inputs)
