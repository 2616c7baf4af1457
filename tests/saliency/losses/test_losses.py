import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from goctconv.saliency.losses import DeepSupervision, bce_loss, dice_loss, get_loss, iou_loss, ssim_loss
from goctconv.saliency.losses._combine import WeightedSum
from reference import saliency_losses as oracle

LOSSES = {"bce": bce_loss, "iou": iou_loss, "ssim": ssim_loss, "dice": dice_loss}


def pair(size=(13, 17), batch=2, dtype=torch.float64, seed=0):
    """Logits and soft masks, with an edge between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 1, *size, generator=generator, dtype=torch.float64) * 3
    masks = torch.rand(batch, 1, *size, generator=generator, dtype=torch.float64)
    masks[..., : size[1] // 3] = 0
    masks[..., -size[1] // 3 :] = 1
    return logits.to(dtype), masks.to(dtype)


@pytest.mark.parametrize("size", [(13, 17), (1, 1), (3, 29)])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_their_oracles(name, size):
    logits, masks = pair(size)
    expected = getattr(oracle, name)(logits.numpy(), masks.numpy())
    assert LOSSES[name](logits, masks).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    single = LOSSES[name](logits.float(), masks.float())
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_differences(name):
    logits, masks = pair((5, 7), batch=2)
    assert torch.autograd.gradcheck(LOSSES[name], (logits.requires_grad_(), masks))


@pytest.mark.parametrize("name", ["iou", "ssim", "dice"])
def test_a_perfect_map_costs_nothing_and_the_opposite_much(name):
    masks = (torch.rand(2, 1, 24, 24) > 0.5).float()
    assert LOSSES[name](200 * masks - 100, masks).item() == pytest.approx(0, abs=1e-6)
    assert LOSSES[name](100 - 200 * masks, masks).item() > 0.9


@pytest.mark.parametrize("smooth", [0.5, 3.0])
@pytest.mark.parametrize(("loss", "slow"), [(iou_loss, oracle.iou), (dice_loss, oracle.dice)], ids=["iou", "dice"])
def test_smoothing(loss, slow, smooth):
    logits, masks = pair()
    expected = slow(logits.numpy(), masks.numpy(), smooth)
    assert loss(logits, masks, smooth=smooth).item() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"smooth=0 must be a number above 0"):
        loss(logits, masks, smooth=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("mask", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_have_finite_gradients(name, mask, dtype):
    largest = torch.finfo(dtype).max if dtype == torch.float16 else 1e6
    logits = torch.tensor([-largest, -1e4, -30, -1e-4, 0, 1e-4, 30, 1e4, largest], dtype=dtype).repeat(16, 2)
    logits = logits[None, None].requires_grad_()
    loss = LOSSES[name](logits, torch.full_like(logits, mask).detach())
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [(224, 224), (8, 9)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_autocast_and_half_logits_lose_nothing(name, dtype, size):
    """Sums over 50,000 pixels overflow in float16, and the variances of SSIM vanish in bfloat16."""
    logits, masks = (values.to(dtype).float() for values in pair(size, batch=1))
    expected = LOSSES[name](logits, masks)
    with torch.autocast("cpu", dtype):
        assert torch.equal(LOSSES[name](logits, masks), expected)
        assert torch.equal(LOSSES[name](logits.to(dtype), masks.to(dtype)), expected)
    half = logits.to(dtype).requires_grad_()
    LOSSES[name](half, masks).backward()
    assert half.grad.dtype == dtype


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compile_into_one_graph(name):
    logits, masks = pair(dtype=torch.float32)
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, masks), LOSSES[name](logits, masks))


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_inputs_are_named(name):
    logits, masks = pair()
    with pytest.raises(ValueError, match=r"<Tensor \(2, 13, 17\)> must be .* as the logits \(2, 1, 13, 17\)"):
        LOSSES[name](logits, masks[:, 0])
    with pytest.raises(ValueError, match=r"none of them 0"):
        LOSSES[name](logits[:0], masks[:0])
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\) as the logits"):
        LOSSES[name](logits.expand(2, 3, 13, 17), masks.expand(2, 3, 13, 17))
    with pytest.raises(TypeError, match=r"masks=.* is of type torch.uint8, expected floating point.*masks / 255"):
        LOSSES[name](logits, masks.to(torch.uint8))
    with pytest.raises(TypeError, match=r"logits=.* is of type torch.int64"):
        LOSSES[name](logits.long(), masks)
    with pytest.raises(TypeError, match=r"masks=<ndarray .* must be a tensor"):
        LOSSES[name](logits, np.zeros((2, 1, 13, 17)))


def test_weighted_sums():
    logits, masks = pair()
    both = WeightedSum([bce_loss, iou_loss], [0.25, 3])
    torch.testing.assert_close(both(logits, masks), 0.25 * bce_loss(logits, masks) + 3 * iou_loss(logits, masks))
    plain = WeightedSum([ssim_loss, dice_loss])
    torch.testing.assert_close(plain(logits, masks), ssim_loss(logits, masks) + dice_loss(logits, masks))
    assert torch.equal(pickle.loads(pickle.dumps(both))(logits, masks), both(logits, masks))  # noqa: S301  # our own bytes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (([bce_loss], [1, 2]), r"weights=\[1, 2\] must be one for each of 1 losses"),
        (([], None), r"weights=\[\] must be one"),
        (([bce_loss], [-1]), r"weights=\[-1\] must be numbers of at least 0"),
        (([bce_loss], [float("nan")]), r"weights=\[nan\]"),
    ],
)
def test_weights_that_are_none(wrong, message):
    with pytest.raises(ValueError, match=message):
        WeightedSum(*wrong)


def test_a_name_is_no_loss():
    with pytest.raises(TypeError, match="loss='bce' must be a function of"):
        WeightedSum(["bce"])


def test_losses_by_name():
    logits, masks = pair()
    assert get_loss("bce") is bce_loss
    expected = bce_loss(logits, masks) + 0.5 * ssim_loss(logits, masks) + 2 * iou_loss(logits, masks)
    torch.testing.assert_close(get_loss("bce + 0.5*ssim+2 * iou")(logits, masks), expected)
    torch.testing.assert_close(get_loss("3*dice")(logits, masks), 3 * dice_loss(logits, masks))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "bec",
            r"loss='bec' names 'bec', expected a sum of bce, .*, boundary_dice; did you mean 'bce'\?",
        ),
        ("bce+", r"loss='bce\+' names ''"),
        ("x*bce", r"loss='x\*bce' has the factor 'x'"),
        ("-1*iou", r"has the factor '-1', expected a positive number as in 0.5\*iou"),
        ("nan*iou", "has the factor 'nan'"),
    ],
)
def test_names_of_no_loss(name, message):
    with pytest.raises(ValueError, match=message):
        get_loss(name)


def test_deep_supervision_halves_the_weights():
    logits, masks = pair((12, 16))
    outputs = [logits, logits + 1, logits - 2]
    expected = sum(weight * iou_loss(out, masks) for weight, out in zip((1, 0.5, 0.25), outputs, strict=True))
    torch.testing.assert_close(DeepSupervision(iou_loss)(outputs, masks), expected)
    weighted = DeepSupervision(iou_loss, [0, 2, 0])(outputs, masks)
    torch.testing.assert_close(weighted, 2 * iou_loss(outputs[1], masks))


def test_deep_supervision_resizes_logits_or_masks():
    logits, masks = pair((6, 8))
    large = pair((12, 16))[1]
    up = F.interpolate(logits, (12, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(DeepSupervision(bce_loss)([logits], large), bce_loss(up, large))
    shares = large.reshape(2, 1, 6, 2, 8, 2).mean((3, 5))
    by_masks = DeepSupervision(bce_loss, resize="masks")
    torch.testing.assert_close(by_masks([logits], large), bce_loss(logits, shares))
    assert torch.equal(by_masks([logits], masks), bce_loss(logits, masks))


@pytest.mark.parametrize("resize", ["logits", "masks"])
def test_deep_supervision_under_autocast(resize):
    logits, masks = (values.bfloat16().float() for values in pair((7, 9)))
    large = pair((20, 31), dtype=torch.float32)[1]
    loss = DeepSupervision(get_loss("bce+ssim"), resize=resize)
    half = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss([half, half], large)
    torch.testing.assert_close(value, loss([logits, logits], large))
    value.backward()
    assert half.grad.isfinite().all()
    assert half.grad.any()
    assert masks.shape == logits.shape


def test_deep_supervision_says_what_is_wrong():
    logits, masks = pair()
    loss = DeepSupervision(bce_loss, [1, 0.5])
    with pytest.raises(TypeError, match=r"outputs=<Tensor .* must be several outputs: pass a list, \[logits\]"):
        loss(logits, masks)
    with pytest.raises(ValueError, match=r"weights=\[1.0, 0.5\] must be one for each of 3 outputs"):
        loss([logits] * 3, masks)
    with pytest.raises(ValueError, match=r"weights=\[\] must be one for each of 0 outputs"):
        DeepSupervision(bce_loss)([], masks)
    with pytest.raises(ValueError, match="resize='both' must be one of 'logits', 'masks'"):
        DeepSupervision(bce_loss, resize="both")
    with pytest.raises(TypeError, match="outputs=None must be a tensor"):
        loss([logits, None], masks)
    with pytest.raises(ValueError, match="as the logits"):
        loss([logits[:, 0], logits], masks)
    with pytest.raises(TypeError, match=r"must be a function of \(logits, masks\)"):
        DeepSupervision(torch.nn.BCEWithLogitsLoss)
    assert repr(loss) == "DeepSupervision(bce_loss, [1.0, 0.5], resize='logits')"


EVERY_LOSS = ["bce", "iou", "ssim", "dice", "boundary_dice", "bce+0.5*iou"]


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_ignored_pixels_have_no_gradient_and_no_value(name):
    torch.manual_seed(0)
    masks = (torch.rand(2, 1, 24, 20) > 0.5).float()
    masks[:, :, :, 12:] = torch.nan
    loss = get_loss(name)
    logits = torch.randn(2, 1, 24, 20, requires_grad=True)
    found = loss(logits, masks)
    found.backward()
    assert torch.isfinite(found)
    assert logits.grad is not None
    assert not logits.grad[..., 12:].any()
    assert logits.grad[..., :12].any()
    others = logits.detach().clone()
    others[..., 12:] = 7
    assert torch.equal(loss(others, masks), found.detach())


@pytest.mark.parametrize("name", ["bce", "iou", "dice"])
def test_a_mean_without_ignored_pixels_is_that_of_the_others(name):
    torch.manual_seed(0)
    masks, logits = (torch.rand(2, 1, 24, 20) > 0.5).float(), torch.randn(2, 1, 24, 20)
    expected = get_loss(name)(logits[..., :12], masks[..., :12])
    masks[..., 12:] = torch.nan
    torch.testing.assert_close(get_loss(name)(logits, masks), expected)
    nothing = torch.full_like(masks, torch.nan)
    assert get_loss("bce")(logits, nothing) == 0


def test_losses_of_ones_own_see_background_in_place_of_ignored_pixels():
    def squared(logits, masks):
        return (logits.sigmoid() - masks).square().mean()

    masks, logits = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    masks[..., 4:] = torch.nan
    for loss in (WeightedSum([squared]), DeepSupervision(squared, [1.0])):
        given = [logits] if isinstance(loss, DeepSupervision) else logits
        assert loss(given, masks) == pytest.approx(0.125)
    for resize in ("logits", "masks"):
        assert torch.isfinite(DeepSupervision(bce_loss, resize=resize)([logits, torch.zeros(1, 1, 4, 4)], masks))
