import numpy as np
import pytest
import torch

from goctconv.saliency import grey_map
from goctconv.saliency.metrics import SaliencyMetrics

LEVELS = torch.arange(256, dtype=torch.uint8).view(8, 32)
MASK = (torch.arange(256).view(8, 32) % 3 == 0).to(torch.uint8) * 255


def scores(prediction, mask=MASK, protocol="paper"):
    metrics = SaliencyMetrics(protocol)
    metrics.update(prediction, mask)
    return metrics.compute()


@pytest.mark.parametrize("protocol", ["paper", "pysodmetrics"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_divided_by_255_are_levels(dtype, protocol):
    assert scores(LEVELS.to(dtype) / 255, protocol=protocol) == scores(LEVELS, protocol=protocol)


def test_probabilities_are_truncated_as_published():
    probability = torch.rand(8, 32)
    published = torch.from_numpy(grey_map(probability.numpy()))
    assert scores(probability) == scores(published)
    assert scores(probability.half()) == scores(probability.half().float())


@pytest.mark.parametrize("mask", [MASK > 0, MASK.float() / 255, MASK.double() / 255, (MASK > 0).half()])
def test_types_of_masks(mask):
    assert scores(LEVELS, mask) == scores(LEVELS)


def test_grey_masks_are_rounded():
    assert scores(LEVELS, torch.full((8, 32), 200.4 / 255)) == scores(
        LEVELS, torch.full((8, 32), 200, dtype=torch.uint8)
    )


def test_binary_predictions():
    assert scores(LEVELS > 9) == scores((LEVELS > 9).to(torch.uint8) * 255)


@pytest.mark.parametrize("shape", [(8, 32), (1, 8, 32), (1, 1, 8, 32)])
@pytest.mark.parametrize("mask_shape", [(8, 32), (1, 8, 32), (1, 1, 8, 32)])
def test_shapes(shape, mask_shape):
    assert scores(LEVELS.view(shape), MASK.view(mask_shape)) == scores(LEVELS)


def test_layouts_in_memory():
    turned = LEVELS.t().contiguous().t()
    assert not turned.is_contiguous()
    assert scores(turned) == scores(LEVELS)


def test_inputs_stay_and_need_no_gradient():
    prediction = (LEVELS.float() / 255).requires_grad_()
    before = prediction.detach().clone()
    assert scores(prediction, MASK.clone()).images == 1
    assert torch.equal(prediction, before)
    assert prediction.grad is None


def nan():
    return torch.full((8, 32), float("nan"))


@pytest.mark.parametrize(
    ("prediction", "mask", "error", "message"),
    [
        (LEVELS[:7], MASK, ValueError, r"\(7, 32\)> must be .* the masks, \(8, 32\): resize the predictions"),
        (LEVELS.expand(2, 8, 32), MASK, ValueError, r"\(2, 8, 32\)> must be .* the masks, \(8, 32\)"),
        (LEVELS.expand(1, 3, 8, 32), MASK, ValueError, r"\(1, 3, 8, 32\)> must be .*one channel"),
        (LEVELS[:0], MASK[:0], ValueError, "at least one pixel"),
        (LEVELS.float(), MASK, ValueError, "from 0 to 255, expected 0 to 1: divide by 255"),
        (LEVELS.float() - 100, MASK, ValueError, "from -100 to 155, expected 0 to 1: apply torch.sigmoid"),
        (LEVELS.float() / 255, MASK.float(), ValueError, "mask=.* has values from 0 to 255"),
        (nan(), MASK, ValueError, "prediction=.* holds NaN"),
        (LEVELS, nan(), ValueError, "mask=.* holds NaN"),
        (torch.full((8, 32), float("inf")), MASK, ValueError, "to inf, expected 0 to 1"),
        (LEVELS, MASK // 255, ValueError, r"values 0 and 1, .* expected 0 to 255.*mask.bool\(\)"),
        (LEVELS.long(), MASK, TypeError, "torch.int64, expected uint8"),
        (LEVELS, MASK.int(), TypeError, "mask=.* is of type torch.int32"),
        (LEVELS.numpy(), MASK, TypeError, "prediction=<ndarray .* must be a tensor"),
        (LEVELS, np.zeros((8, 32)), TypeError, "mask=<ndarray"),
    ],
)
def test_what_is_refused(prediction, mask, error, message):
    metrics = SaliencyMetrics()
    with pytest.raises(error, match=message):
        metrics.update(prediction, mask)
    assert metrics.images == 0
