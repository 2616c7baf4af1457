"""PerScale applies one module per non-empty scale; SelectScale takes one scale out of a tuple."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from goctconv import ChannelError, GOctConv, PerScale, ScaleError, SelectScale
from reference.compare import random_features

SIZES = [(13, 17), (6, 8), (3, 4)]


def test_applies_each_module_to_its_scale():
    layer = PerScale(nn.PReLU, (3, 0, 5))
    features = random_features((3, 0, 5), SIZES, dtype=torch.float32)
    for act in layer.children():
        nn.init.uniform_(act.weight)
    children = dict(layer.named_children())
    assert list(children) == ["0", "2"]
    outputs = layer(features)
    assert isinstance(outputs, tuple)
    assert torch.equal(outputs[0], children["0"](features[0]))
    assert outputs[1].shape == (2, 0, 6, 8)
    assert torch.equal(outputs[2], children["2"](features[2]))


def test_make_gets_the_width():
    asked = []

    def make(width: int) -> nn.Module:
        asked.append(width)
        return nn.Identity()

    PerScale(make, (3, 0, 5))
    assert asked == [3, 5]


def test_int_is_a_tensor():
    layer, x = PerScale(nn.BatchNorm2d, 3), torch.randn(2, 3, 13, 17)
    assert [name for name, _ in layer.named_children()] == ["0"]
    torch.testing.assert_close(layer(x), nn.BatchNorm2d(3)(x), rtol=0, atol=0)


def test_state_dict_keys():
    assert set(PerScale(nn.PReLU, (3, 0, 5)).state_dict()) == {"0.weight", "2.weight"}


def test_sizes_are_free():
    features = random_features((3, 5), [(7, 11), (13, 2)], dtype=torch.float32)
    assert [x.shape for x in PerScale(nn.BatchNorm2d, (3, 5))(features)] == [x.shape for x in features]


def test_group_norm():
    layer = PerScale(lambda width: nn.GroupNorm(width // 2, width), (4, 6))
    features = random_features((4, 6), [(7, 11), (3, 5)], dtype=torch.float32)
    for output, x, groups in zip(layer(features), features, (2, 3), strict=True):
        torch.testing.assert_close(output, torch.nn.functional.group_norm(x, groups))


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ((3, -2), ChannelError, "-2"),
        ((0, 0), ChannelError, r"\(0, 0\)"),
        (0, ChannelError, "0"),
        ((), ChannelError, r"\(\)"),
        ((3, 2.5), TypeError, r"2\.5"),
        ((3, True), TypeError, "True"),
    ],
    ids=str,
)
def test_refuses_channels(channels, error, message):
    with pytest.raises(error, match=message):
        PerScale(nn.BatchNorm2d, channels)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (torch.zeros(1, 3, 8, 10), TypeError, "tuple"),
        ((torch.zeros(1, 3, 8, 10),), ScaleError, r"(?s)1.*2|2.*1"),
        ((torch.zeros(1, 3, 8, 10), torch.zeros(1, 4, 4, 5)), ChannelError, r"(?s)scale 1.*4.*5"),
    ],
    ids=["tensor", "one_scale", "channels"],
)
def test_refuses_features(features, error, message):
    with pytest.raises(error, match=message):
        PerScale(nn.PReLU, (3, 5))(features)


def test_refuses_tuple_for_tensor():
    with pytest.raises(TypeError, match="tuple"):
        PerScale(nn.PReLU, 3)((torch.zeros(1, 3, 8, 10),))


@pytest.mark.parametrize("index", [0, 1])
def test_select_scale(index):
    features = random_features((3, 5), [(13, 17), (6, 8)])
    assert SelectScale(index)(features) is features[index]
    assert (
        nn.Sequential(GOctConv((3, 5), (2, 7), 1), SelectScale(index))(tuple(x.float() for x in features)).shape[1]
        == (2, 7)[index]
    )


def test_select_scale_shows_its_index():
    assert "1" in repr(SelectScale(1))


def test_select_scale_refuses():
    with pytest.raises(ScaleError, match=r"(?s)2.*2"):
        SelectScale(2)(random_features((3, 5), [(13, 17), (6, 8)]))
    with pytest.raises(TypeError, match="tuple"):
        SelectScale(0)(torch.zeros(2, 3, 8, 10))


@pytest.mark.parametrize("kind", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.Dropout])
def test_refuses_classes_that_take_no_channels(kind):
    with pytest.raises(TypeError, match=f"{kind.__name__}'> takes no number of channels.*lambda channels"):
        PerScale(kind, (8, 4))


@pytest.mark.parametrize("make", [nn.BatchNorm2d(8), nn.ReLU(), None])
def test_refuses_what_makes_no_modules(make):
    with pytest.raises(TypeError, match="must be a function of the number of channels"):
        PerScale(make, (8, 4))


class Scaled(nn.Module):
    """Multiplies by three learnt numbers, and then by their sum: parameters that do not depend on the width."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 1.5, 2.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.sum()


FREE = {
    "relu": lambda _: nn.ReLU(),
    "one slope": lambda _: nn.PReLU(),
    "gelu": lambda _: nn.GELU(),
    "dropout": lambda _: nn.Dropout(0.5),
    "sequence": lambda _: nn.Sequential(nn.ReLU(), nn.Dropout(0.1)),
    "parameters": lambda _: Scaled(),
}


@pytest.mark.parametrize("make", FREE.values(), ids=FREE)
@pytest.mark.parametrize("widths", [(3, 0, 5), (8, 0, 1), (0, 0, 2), (4, 0, 0)], ids=str)
def test_modules_without_width_take_any_widths(make, widths):
    layer = PerScale(make, (3, 0, 5)).eval()
    features = random_features(widths, SIZES, dtype=torch.float32)
    outputs = layer(features)
    children = dict(layer.named_children())
    for scale, (output, x) in enumerate(zip(outputs, features, strict=True)):
        assert torch.equal(output, children[str(scale)](x) if x.numel() else x)
    assert layer.in_widths == layer.out_widths == (3, 0, 5)


def test_any_width_of_a_plain_tensor():
    layer = PerScale(lambda _: nn.ReLU(), 3)
    assert layer(torch.ones(1, 7, 4, 4)).shape == (1, 7, 4, 4)


def test_a_scale_without_module_stays_absent():
    layer = PerScale(lambda _: nn.ReLU(), (3, 0, 5))
    with pytest.raises(ChannelError, match=r"scale 1 has 2 channels, expected 0"):
        layer(random_features((3, 2, 5), SIZES))


DEPENDENT = {
    "norm": (nn.BatchNorm2d, (3, 5)),
    "norm of one width": (nn.BatchNorm2d, (4, 4)),
    "norm of one channel": (nn.BatchNorm2d, (1, 1)),
    "slopes": (nn.PReLU, (3, 1)),
    "convolution": (lambda width: nn.Conv2d(width, width, 1), (3, 3)),
    "buffer": (lambda width: nn.BatchNorm2d(width, affine=False), (3, 5)),
}


@pytest.mark.parametrize(("make", "widths"), DEPENDENT.values(), ids=DEPENDENT)
def test_modules_with_width_check_it(make, widths):
    layer = PerScale(make, widths)
    with pytest.raises(ChannelError, match=rf"scale 1 has 2 channels, expected {widths[1]}"):
        layer(random_features((widths[0], 2), SIZES[:2], dtype=torch.float32))


def test_lazy_modules():
    layer = PerScale(lambda _: nn.LazyBatchNorm2d(), (3, 5))
    assert [x.shape[1] for x in layer(random_features((3, 5), SIZES[:2], dtype=torch.float32))] == [3, 5]
