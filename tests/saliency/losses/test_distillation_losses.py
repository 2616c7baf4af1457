"""Losses of KD-SCFNet: the recorded numbers, a slow oracle of the boundary, the band that narrows."""

import numpy as np
import pytest
import torch

from goctconv.saliency.losses import DeepSupervision, dice_loss, get_loss
from goctconv.saliency.losses._basic import BoundaryDice, boundary_dice_loss, boundary_width
from goctconv.saliency.losses._combine import WeightedSum
from reference import saliency_losses as oracle

EPOCHS = (0, 9, 19, 35, 68)


def pair(size=(9, 11), batch=2):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(batch, 1, *size, generator=generator, dtype=torch.float64)
    return logits, torch.rand(batch, 1, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_recorded_numbers(shared, dtype):
    with np.load(shared / "reference" / "scfnet.npz") as arrays:
        recorded = {key.removeprefix("loss/"): arrays[key] for key in arrays.files if key.startswith("loss/")}
    logits, mask, teacher = (torch.from_numpy(recorded[name]).to(dtype) for name in ("pred", "mask", "teacher"))
    found = {
        "dice": dice_loss(logits, mask),
        "kd_dice": dice_loss(logits, teacher.sigmoid()),
        **{
            f"boundary_dice_epoch{epoch}": boundary_dice_loss(logits, mask, width=boundary_width(epoch))
            for epoch in EPOCHS
        },
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(recorded[name]) for name in found}, abs=1e-6
    )


@pytest.mark.parametrize("width", [1, 3, 13])
def test_boundary_equals_its_oracle(width):
    logits, masks = pair()
    expected = oracle.boundary_dice(logits.numpy(), masks.numpy(), width)
    assert boundary_dice_loss(logits, masks, width=width).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_are_those_of_differences():
    logits, masks = pair((5, 7))
    assert torch.autograd.gradcheck(lambda x: boundary_dice_loss(x, masks, width=3), (logits.requires_grad_(),))


def test_the_band_narrows():
    assert [boundary_width(epoch) for epoch in (0, 8, 9, 18, 19, 59, 68, 500)] == [13, 13, 11, 11, 9, 1, 1, 1]
    logits, masks = pair()
    one, other = get_loss("dice+0.5*boundary_dice"), get_loss("boundary_dice")
    assert isinstance(other, BoundaryDice)
    deep = DeepSupervision(one)
    deep.set_epoch(19)
    assert isinstance(one, WeightedSum)
    assert (one.losses[1].width, other.width) == (9, 13)
    expected = dice_loss(logits, masks) + 0.5 * boundary_dice_loss(logits, masks, width=9)
    assert deep([logits], masks).item() == pytest.approx(expected.item())
    assert repr(one) == "WeightedSum([dice_loss, BoundaryDice()], [1.0, 0.5])"
    assert repr(BoundaryDice(0.5)) == "BoundaryDice(0.5)"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"width": 4}, ValueError, "width=4 must be an odd number"),
        ({"width": 0}, ValueError, "width=0"),
        ({"width": 1.5}, TypeError, r"width=1\.5"),
        ({"smooth": 0}, ValueError, "smooth=0"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        boundary_dice_loss(*pair(), **options)
    with pytest.raises(ValueError, match="epoch=-1"):
        boundary_width(-1)
