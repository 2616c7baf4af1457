"""What only looks like a constant on the example: factors that depend on sizes, on other inputs, or on chance."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # the usual name
from torch import Tensor, nn

from goctconv.pruning import PruningError, PruningResult, prune_channels
from goctconv.pruning.propagate._shadows import Shadow, by_dimension
from goctconv.pruning.propagate._values import agreeing, constants_of, only_where
from reference.random_networks import difference, randomize
from reference.zoo.wiring import Between, MeanOfWords, SharedParts, TiedEmbedding

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
OTHER = torch.randn(5, 3, 24, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def network(between: Callable[..., Tensor], dimensions: int = 2) -> nn.Module:
    return randomize(Between(between, dimensions).double(), share=0.5, seed=4).eval()


@torch.no_grad()
def assert_exact(model: nn.Module, example: Any, others: list[Any]) -> PruningResult:
    result = prune_channels(model, example, threshold=1e-20)
    masked = result.plan.mask(copy.deepcopy(model))
    for one in (example, *others):
        call = one if isinstance(one, tuple) else (one,)
        assert difference(masked(*call), result.model(*call)) <= 1e-12
    return result


@pytest.mark.parametrize(
    "factor",
    [
        lambda _, x, __: x.shape[3] / 16,
        lambda _, x, __: x.shape[2] * x.shape[3] / 256,
        lambda _, x, __: 1 / x.shape[0],
        lambda _, x, __: x.mean(),
        lambda _, x, __: x.mean().item(),
        lambda _, __, y: 0.5 * y.shape[1],
        lambda _, __, y: 1 / y.new_tensor(y.shape[1]),
        lambda self, _, __: self.last.weight.abs().mean(),
    ],
    ids=["width", "area", "batch", "mean", "item", "channels", "tensor", "weight"],
)
def test_factors(factor: Callable[..., Any]) -> None:
    model = network(lambda self, x, y: y * factor(self, x, y))
    assert assert_exact(model, IMAGE, [OTHER]).report.removed > 0


def test_channels_as_a_divisor_stay() -> None:
    assert_exact(network(lambda _, __, y: y / y.shape[1]), IMAGE, [OTHER])


@pytest.mark.parametrize("number", [lambda t: (t.double() / 1000).view(-1, 1, 1, 1), lambda t: t.item() / 1000])
def test_integer_inputs(number: Callable[[Tensor], Any]) -> None:
    model = network(lambda _, __, y, t: y * number(t))
    result = assert_exact(model, (IMAGE, torch.tensor([500])), [(IMAGE, torch.tensor([100]))])
    assert result.report.removed > 0


def test_signals_are_tried_at_another_length() -> None:
    signal = torch.randn(2, 3, 32, dtype=torch.float64)
    longer = torch.randn(2, 3, 64, dtype=torch.float64)
    result = assert_exact(network(lambda _, __, y: y / y.shape[-1], dimensions=1), signal, [longer])
    assert set(result.report.difference) == {"the example", "random input", "another size"}


def test_other_sizes_that_are_refused_are_noted() -> None:
    def between(_: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[2:] != (16, 16):
            raise ValueError("only 16")
        return y

    report = assert_exact(network(between), IMAGE, []).report
    assert set(report.difference) == {"the example", "random input", "another batch size"}
    assert "no second size was compared: the model takes none of those that were tried" in report.notes


def test_amounts_that_are_zero_at_the_size_of_the_example() -> None:
    def between(_: nn.Module, __: Tensor, y: Tensor) -> Tensor:
        halved = F.interpolate(F.max_pool2d(y, 2), scale_factor=2.0)
        rows, columns = y.shape[2] - halved.shape[2], y.shape[3] - halved.shape[3]
        return y + F.pad(halved, (0, columns, 0, rows))

    odd = torch.randn(1, 3, 17, 19, dtype=torch.float64)
    assert_exact(network(between), IMAGE, [OTHER, odd])


@pytest.mark.parametrize("changes", [1.0, 0.0])
def test_a_network_that_is_dead_is_noted(changes: float) -> None:
    model = network(lambda _, __, y: y * changes)
    notes = prune_channels(model, IMAGE, threshold=1e-20).report.notes
    assert ("the masked network gives the same for every input: too much is masked" in notes) is (changes == 0)


def test_square_images_alone() -> None:
    def between(_: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[2] != x.shape[3]:
            raise ValueError("only squares")
        return y * (x.shape[2] / 16)

    square = torch.randn(1, 3, 20, 20, dtype=torch.float64)
    assert "another size" in assert_exact(network(between), IMAGE, [square]).report.difference


def test_nothing_is_a_constant_behind_dropout_that_is_always_on() -> None:
    model = network(lambda _, __, y: F.dropout(y, 0.5, training=True))
    result = prune_channels(model, IMAGE, threshold=1e-20)
    assert max(result.report.difference.values()) <= 1e-12
    assert "norm2" not in result.plan.removed
    assert "norm" in result.plan.removed


def test_a_model_that_never_gives_the_same() -> None:
    count = itertools.count(1)
    model = network(lambda _, __, y: y * next(count))
    with pytest.raises(PruningError, match="gives other outputs when it is called again"):
        prune_channels(model, IMAGE, threshold=1e-20)


def test_low_precision_is_compared_in_float32() -> None:
    model = network(lambda _, x, y: y * (x.shape[2] / 16)).bfloat16()
    result = prune_channels(model, IMAGE.bfloat16(), threshold=1e-20)
    masked = result.plan.mask(copy.deepcopy(model)).float()
    with torch.no_grad():
        small = torch.randn(1, 3, 6, 16)
        assert difference(masked(small), result.model.float()(small)) < 0.03


@pytest.mark.parametrize(
    "between",
    [
        lambda _, __, y: F.relu_(F.pad(y, (1, 1, 1, 1))),
        lambda _, __, y: F.channel_shuffle(y, 4),
        lambda _, __, y: nn.ChannelShuffle(2)(y),
    ],
    ids=["padded in place", "shuffled", "shuffled by a module"],
)
def test_operations_that_cost_some_channels(between: Callable[..., Tensor]) -> None:
    assert assert_exact(network(between), IMAGE, [OTHER]).report.removed > 0


def test_a_batch_norm_and_a_bias_of_two_layers() -> None:
    model = randomize(SharedParts().double(), share=0.5, seed=4).eval()
    assert assert_exact(model, IMAGE, [OTHER]).report.removed > 0


def test_a_table_that_is_read_in_two_ways() -> None:
    model = randomize(TiedEmbedding().double(), share=0.5, seed=4).eval()
    assert assert_exact(model, torch.randint(11, (3, 5)), [torch.randint(11, (2, 7))]).report.removed == 0


def test_words_of_any_number() -> None:
    model = randomize(MeanOfWords().double(), share=0.5, seed=4).eval()
    assert_exact(model, torch.randint(1, 11, (1, 5)), [torch.tensor([[0, 0, 1, 2, 3]])])


def test_parameters_that_are_parts_of_one_storage() -> None:
    model = network(lambda _, __, y: y)
    removed = prune_channels(model, IMAGE, threshold=1e-20).plan.removed
    flat = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    nn.utils.vector_to_parameters(flat, model.parameters())
    assert prune_channels(model, IMAGE, threshold=1e-20).plan.removed == removed


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3), (0, 4)])
def test_constants_of_tensors_without_elements(shape: tuple[int, ...]) -> None:
    flags = torch.tensor([True, False, True, False])
    shadow = by_dimension(shape, 1, torch.arange(4, dtype=torch.int32), flags)
    spread = Shadow(shadow.labels, shadow.constant)
    empty = torch.zeros(shape)
    for each in (shadow, spread):
        assert only_where(empty, each, 0.0).shape == agreeing(empty, each).shape == torch.Size(shape)
        assert not constants_of(empty, each, 1).constant.any()
