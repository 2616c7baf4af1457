"""What counts of the outputs, several examples, and comparisons of the caller's own."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goctconv import plan_pruning, prune_channels
from goctconv._checks import ArgumentError, ArgumentTypeError
from goctconv.pruning import PruningError, _verify, channel_groups


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


def randomized(model: nn.Module) -> nn.Module:
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.05, 1.35)
        nn.init.normal_(norm.bias, 0, 0.3)
    return model.double().eval()


class Detector(nn.Module):
    """Returns predictions and, beside them, the feature maps that they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 16), block(16, 16)
        self.head = nn.Conv2d(16, 6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        features = self.second(self.first(x))
        predictions = self.head(features).flatten(2).transpose(1, 2)
        return predictions, {"feats": features, "classes": predictions[..., 4:].argmax(2)}


class Tasks(nn.Module):
    """Runs another branch for every task."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.depth, self.color = block(3, 12), block(12, 12), block(12, 12)
        self.depth_out, self.color_out = nn.Conv2d(12, 1, 1), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor, task: str = "depth") -> Tensor:
        x = self.shared(x)
        return self.depth_out(self.depth(x)) if task == "depth" else self.color_out(self.color(x))


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def detector() -> nn.Module:
    torch.manual_seed(0)
    return randomized(Detector())


def test_channels_that_are_put_out_may_go_where_that_does_not_count(detector: nn.Module, image: Tensor) -> None:
    all_of_it = plan_pruning(detector, image, ratio=0.4, bn_bias="zero").report
    assert all_of_it.removed < all_of_it.masked
    assert "outputs=" in str(all_of_it)
    result = prune_channels(detector, image, ratio=0.4, bn_bias="zero", outputs=lambda out: out[0])
    assert result.report.removed == result.report.masked
    assert type(result.model) is Detector
    masked = result.plan.mask(copy.deepcopy(detector)).eval()
    for x in (image, torch.rand(2, 3, 21, 13).double()):
        with torch.no_grad():
            torch.testing.assert_close(result.model(x)[0], masked(x)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "outputs",
    [
        lambda out: {"boxes": out[0][..., :4], "scores": [out[0][..., 4:].sigmoid()]},
        lambda out: (out[0], out[1]["classes"]),
    ],
    ids=["parts", "integers"],
)
def test_what_counts_may_be_computed(detector: nn.Module, image: Tensor, outputs: Any) -> None:
    report = prune_channels(detector, image, ratio=0.4, bn_bias="zero", outputs=outputs).report
    assert report.removed == report.masked
    assert max(report.difference.values()) < 1e-10


@pytest.mark.parametrize("made", [1.0, None, []], ids=["number", "none", "empty"])
def test_outputs_without_a_tensor_are_refused(detector: nn.Module, image: Tensor, made: Any) -> None:
    with pytest.raises(PruningError, match="no tensor"):
        prune_channels(detector, image, ratio=0.4, bn_bias="zero", outputs=lambda _: made)


def test_a_function_that_fails_is_named(detector: nn.Module, image: Tensor) -> None:
    with pytest.raises(ArgumentError, match=r"outputs=.* raised KeyError on what the model returned, tuple"):
        prune_channels(detector, image, ratio=0.4, bn_bias="zero", outputs=lambda out: out[1]["boxes"])
    with pytest.raises(ArgumentTypeError) as caught:
        prune_channels(detector, image, ratio=0.4, bn_bias="zero", outputs=0)  # type: ignore[arg-type]
    assert caught.value.argument == "outputs"


def test_several_examples_are_followed_and_compared(image: Tensor) -> None:
    torch.manual_seed(0)
    model = randomized(Tasks())
    calls = [image, (image, "color"), {"x": image, "task": "depth"}]
    alone = prune_channels(model, image, ratio=0.4, bn_bias="zero").report
    result = prune_channels(model, calls, ratio=0.4, bn_bias="zero")
    assert not any(layer.removed for name, layer in alone.layers.items() if name.startswith("color"))
    assert result.report.removed == result.report.masked
    assert {"the example", "example 2", "example 3"} <= set(result.report.difference)
    masked = result.plan.mask(copy.deepcopy(model)).eval()
    for task in ("depth", "color"):
        with torch.no_grad():
            torch.testing.assert_close(result.model(image, task), masked(image, task), rtol=1e-10, atol=1e-12)
    assert {"shared.1", "depth.1", "color.1"} == set(channel_groups(model, calls[:2]).of)


@pytest.mark.parametrize(
    ("examples", "error"), [([], ArgumentError), ([[torch.rand(1)]], ArgumentTypeError), ([3], ArgumentTypeError)]
)
def test_lists_that_are_no_calls(examples: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="example_inputs"):
        prune_channels(randomized(Detector()), examples, ratio=0.4, bn_bias="zero")


def test_an_example_that_does_not_run_is_named(image: Tensor) -> None:
    with pytest.raises(PruningError, match=r"does not run on example_inputs of shape \(1, 4, 16, 16\)"):
        prune_channels(randomized(Tasks()), [image, torch.rand(1, 4, 16, 16).double()], ratio=0.4, bn_bias="zero")


def test_a_tolerance(detector: nn.Module, image: Tensor) -> None:
    model = detector.float()
    assert (
        max(prune_channels(model, image.float(), ratio=0.4, bn_bias="zero", compare=1e-3).report.difference.values())
        < 1e-5
    )
    exact = prune_channels(model, image.float(), ratio=0.4, bn_bias="zero", compare=0.0).report
    assert max(exact.difference.values()) == 0.0  # for less goes then
    with pytest.raises(ArgumentError) as caught:
        prune_channels(model, image.float(), ratio=0.4, bn_bias="zero", compare=-1.0)
    assert caught.value.argument == "compare"


def test_a_comparison_of_the_callers_own(detector: nn.Module, image: Tensor) -> None:
    seen: list[tuple[Any, Any]] = []

    def equal_boxes(masked: Any, pruned: Any) -> bool:
        seen.append((masked, pruned))
        return bool(torch.allclose(masked[0], pruned[0], rtol=1e-9))

    result = prune_channels(
        detector, image, ratio=0.4, bn_bias="zero", outputs=lambda out: out[:1], compare=equal_boxes
    )
    assert result.report.removed == result.report.masked
    assert len(seen) >= 3  # the example, random input, another size
    assert all(type(masked) is tuple and len(masked) == 1 for masked, _ in seen)
    assert max(result.report.difference.values()) < 1e-10
    with pytest.raises(PruningError, match="not equal by compare"):
        prune_channels(detector, image, ratio=0.4, bn_bias="zero", compare=lambda *_: False)


@pytest.mark.parametrize("returned", [0.0, 0.5, None, "no"], ids=["zero", "number", "nothing", "text"])
def test_a_comparison_must_say_whether_outputs_are_equal(detector: nn.Module, image: Tensor, returned: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"compare=.* returned .*, not True or False"):
        prune_channels(detector, image, ratio=0.4, compare=lambda *_: returned)  # type: ignore[arg-type, return-value]


def test_a_comparison_that_fails_is_named(detector: nn.Module, image: Tensor) -> None:
    with pytest.raises(ArgumentError, match=r"compare=.* raised ZeroDivisionError on the example"):
        prune_channels(detector, image, ratio=0.4, compare=lambda *_: bool(1 / 0))
    report = prune_channels(detector, image, ratio=0.4, compare=lambda a, b: torch.isclose(a[0], b[0]).all()).report
    assert report.removed  # a tensor of one bool is an answer


@pytest.mark.parametrize("argument", ["groups", "balance", "inplace", "verify", "latency"])
@pytest.mark.parametrize("value", ["no", 2, None])
def test_switches_are_true_or_false(detector: nn.Module, image: Tensor, argument: str, value: object) -> None:
    with pytest.raises(ArgumentTypeError, match="must be True or False") as caught:
        prune_channels(detector, image, ratio=0.4, **{argument: value})  # type: ignore[arg-type]
    assert caught.value.argument == argument


class Nothing(nn.Module):
    """Finds nothing, and has no module inside that puts out what could be compared."""

    def __init__(self, count: bool) -> None:
        super().__init__()
        self.count = count
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        scores = self.last(torch.relu(self.norm(self.conv(x)))).flatten(2)
        boxes = scores[:, :, scores[0, 0] > 1e6]
        return (boxes, torch.tensor([boxes.shape[-1]])) if self.count else boxes


@pytest.mark.parametrize("count", [False, True])
def test_nothing_is_called_equal_where_nothing_was_compared(image: Tensor, count: bool) -> None:
    with pytest.raises(PruningError, match="no module inside puts out what could be compared"):
        prune_channels(randomized(Nothing(count)), image, ratio=0.4)


class Spectrum(nn.Module):
    """Returns complex numbers, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 16), block(16, 16), nn.Conv2d(16, 2, 1))
        self.calls = [0]
        self.adds_calls = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        return torch.fft.fft2(self.body(x)) + self.calls[0] * self.adds_calls


@torch.no_grad()
def test_complex_outputs_are_compared_to_rounding(image: Tensor) -> None:
    torch.manual_seed(0)
    model = randomized(Spectrum())
    result = prune_channels(model, image, ratio=0.3)
    assert result.report.removed > 0
    assert 0 < max(result.report.difference.values()) <= 1e-12


def test_a_network_that_does_not_equal_itself_is_refused_soon(image: Tensor) -> None:
    torch.manual_seed(0)
    model = randomized(Spectrum())
    model.adds_calls = True
    with pytest.raises(PruningError, match="no part of Spectrum can be cut: Spectrum gives other outputs when"):
        prune_channels(model, image, ratio=0.3)
    assert model.calls[0] <= 12


@pytest.mark.parametrize(
    ("first", "second", "is_equal"),
    [
        ([1.0, math.nan], [1.0, math.nan], True),
        ([1.0, math.inf], [1.0, math.inf], True),
        ([1.0, 2.0], [1.0, math.nan], False),
        ([1.0, math.nan], [1.0, 2.0], False),
        ([1.0, math.nan], [1.0, math.inf], False),
        ([1.0, math.inf], [1.0, -math.inf], False),
        ([math.nan, math.inf], [math.nan, math.inf], True),
        ([1j, 2.0], [1j, 2.0], True),
        ([1j, 2.0], [-1j, 2.0], False),
        ([complex(math.nan, 1)], [complex(1, math.nan)], False),
    ],
)
def test_numbers_that_are_not_finite_are_compared(first: list[Any], second: list[Any], is_equal: bool) -> None:
    difference = _verify._relative(torch.tensor(first), torch.tensor(second))
    assert difference == 0 if is_equal else difference > 0.1
    assert not math.isnan(difference)
