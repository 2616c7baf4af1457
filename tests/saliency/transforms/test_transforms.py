import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from goctconv.saliency.inference import resize_bilinear
from goctconv.saliency.transforms import (
    ColorJitter,
    GaussianBlur,
    RandomCrop,
    RandomFlip,
    Resize,
    Sample,
)
from goctconv.saliency.transforms._geometry import published_transforms
from saliency.data_sets import photograph


def sample(height=37, width=53, size=(48, 64), index=0):
    return Sample(*photograph(index, height, width), size)


def rng(seed=0):
    return np.random.default_rng(seed)


def run(transforms, seed, **options):
    given_sample, generator = sample(**options), rng(seed)
    for transform in transforms:
        given_sample = transform(given_sample, generator)
    return given_sample


MOVING = st.lists(
    st.sampled_from(
        [RandomCrop(15), RandomCrop(3), RandomFlip(1, 0), RandomFlip(1, 1), RandomFlip(), Resize((32, 45))]
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(MOVING, st.integers(0, 999), st.integers(1, 40), st.integers(1, 40))
def test_masks_stay_with_their_photographs(transforms, seed, height, width):
    result = run(transforms, seed, height=height, width=width)
    np.testing.assert_allclose(result.image[..., 0], result.mask, atol=1e-6)
    assert min(result.mask.shape) >= 1


@pytest.mark.parametrize(
    "transform", [RandomCrop(5), RandomFlip(1), Resize(40), ColorJitter(), GaussianBlur((1, 2), 1)]
)
@pytest.mark.parametrize("as_float", [False, True])
def test_transforms_leave_what_they_are_given_alone(transform, as_float):
    original = sample()
    if as_float:
        original = Resize((37, 53))(original, rng())
    image, mask = original.image.copy(), original.mask.copy()
    result = transform(original, rng())
    np.testing.assert_array_equal(original.image, image)
    np.testing.assert_array_equal(original.mask, mask)
    assert result.size == original.size
    again = transform(original, rng())
    np.testing.assert_array_equal(result.image, again.image)


@pytest.mark.parametrize("transform", [ColorJitter(), GaussianBlur((1, 2), 1)])
def test_colours_change_only_the_photograph(transform):
    original = sample()
    result = transform(original, rng())
    assert result.mask is original.mask
    assert result.image.shape == original.image.shape
    assert np.abs(result.image - original.image / 255).max() > 0.05
    assert result.image.dtype == np.float32
    assert result.image.min() >= 0
    assert result.image.max() <= 1 + 1e-6


def test_crops_take_each_number_of_pixels_off_each_side():
    height, width = 80, 90
    y, x = np.mgrid[:height, :width]
    marked = Sample(np.stack([y, x, y], -1).astype(np.uint8), np.zeros((height, width), np.uint8), (32, 32))
    seen = [set() for _ in range(4)]
    for seed in range(400):
        image = RandomCrop(4)(marked, rng(seed)).image
        first, last = image[0, 0], image[-1, -1]
        for side, cut in enumerate((first[0], height - 1 - last[0], first[1], width - 1 - last[1])):
            seen[side].add(int(cut))
    assert seen == [{0, 1, 2, 3, 4}] * 4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 31)])
def test_crops_of_small_images_leave_something(height, width):
    for seed in range(50):
        shape = RandomCrop(15)(sample(height, width), rng(seed)).mask.shape
        assert min(shape) >= 1


def test_half_of_the_images_are_flipped_and_half_of_these_top_to_bottom():
    original = sample()
    count = {"as it was": 0, "top to bottom": 0, "left to right": 0}
    for seed in range(1000):
        image = RandomFlip()(original, rng(seed)).image
        ways = {
            "as it was": original.image,
            "top to bottom": original.image[::-1],
            "left to right": original.image[:, ::-1],
        }
        same = [name for name, way in ways.items() if np.array_equal(image, way)]
        count[same[0]] += 1
    assert abs(count["as it was"] - 500) < 60
    assert abs(count["top to bottom"] - 250) < 60
    assert abs(count["left to right"] - 250) < 60


@pytest.mark.parametrize("size", [(48, 64), (37, 53), (32, 77)])
def test_resizing_is_that_of_inference(size):
    original = sample()
    result = Resize(size)(original, rng())
    np.testing.assert_allclose(result.image, resize_bilinear(original.image, size) / 255, atol=1e-6)
    np.testing.assert_allclose(result.mask, resize_bilinear(original.mask, size) / 255, atol=1e-6)
    assert result.mask.dtype == result.image.dtype == np.float32
    assert Resize()(original, rng()).mask.shape == original.size


def test_masks_stay_from_0_to_1():
    noise = rng().integers(0, 2, (41, 43), dtype=np.uint8) * 255
    for height in range(32, 120):
        mask = Resize((height, 64))(sample(41, 43)._replace(mask=noise), rng()).mask
        assert mask.min() >= 0
        assert mask.max() <= 1


@pytest.mark.parametrize(
    ("jitter", "change"),
    [
        (ColorJitter(0.5, 0, 0), lambda image, factor: image * factor),
        (ColorJitter(0, 0.5, 0), lambda image, factor: (image - grey(image).mean()) * factor + grey(image).mean()),
        (ColorJitter(0, 0, 0.5), lambda image, factor: (image - grey(image)) * factor + grey(image)),
    ],
)
def test_colour_jitter_follows_its_formula(jitter, change):
    image = sample().image / 255
    seen = []
    for seed in range(30):
        result = jitter(sample(), rng(seed)).image
        errors = [
            (np.abs(result - np.clip(change(image, factor), 0, 1)).max(), factor)
            for factor in np.linspace(0.5, 1.5, 201)
        ]
        error, factor = min(errors)
        assert error < 0.006  # the grid of factors is 0.005 apart
        seen.append(factor)
    assert min(seen) < 0.7
    assert max(seen) > 1.3


def grey(image):
    return (image @ np.array([0.299, 0.587, 0.114]))[..., None]


def test_colour_jitter_of_no_strength_changes_nothing():
    result = ColorJitter(0, 0, 0)(sample(), rng())
    np.testing.assert_array_equal(result.image, sample().image.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0, 9.0])
def test_blur_equals_scipy(sigma):
    result = GaussianBlur((sigma, sigma), 1)(sample(), rng()).image
    expected = sample().image / 255
    for axis in (0, 1):
        radius = int(np.ceil(3 * sigma))
        expected = ndimage.gaussian_filter1d(expected, sigma, axis=axis, mode="mirror", radius=radius)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (2, 3)])
def test_blur_of_images_smaller_than_its_window(height, width):
    image = GaussianBlur((2, 2), 1)(sample(height, width), rng()).image
    assert image.shape == (height, width, 3)
    assert np.isfinite(image).all()


def test_blur_happens_as_often_as_asked():
    blur, original = GaussianBlur((1, 1), 0.25), sample()
    blurred = sum(blur(original, rng(seed)).image is not original.image for seed in range(400))
    assert 60 < blurred < 140


def test_transforms_draw_from_their_generator_alone():
    torch.manual_seed(1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (the global state is what must not change)
    run([*published_transforms(), Resize(), ColorJitter(), GaussianBlur()], 3)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))


@pytest.mark.parametrize("sigma", [(0, 1), (2, 1), (1, float("inf"))])
def test_ranges_of_a_blur_that_are_none(sigma):
    with pytest.raises(ValueError, match=r"sigma=.* must be \(smallest, largest\)"):
        GaussianBlur(sigma)


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match=r"pixels=1.5 must be an integer of at least 0"):
        RandomCrop(1.5)
    with pytest.raises(ValueError, match=r"pixels=-1"):
        RandomCrop(-1)
    with pytest.raises(ValueError, match=r"probability=1.5 must be a number from 0 to 1"):
        RandomFlip(1.5)
    with pytest.raises(ValueError, match=r"vertical=nan"):
        RandomFlip(0.5, float("nan"))
    with pytest.raises(ValueError, match=r"contrast=-0.1 must be a number of at least 0"):
        ColorJitter(contrast=-0.1)
    with pytest.raises(ValueError, match="each at least 32"):
        Resize(16)


def test_transforms_show_their_arguments():
    shown = [repr(one) for one in (RandomCrop(3), RandomFlip(), Resize(), Resize(64), ColorJitter(), GaussianBlur())]
    assert shown == [
        "RandomCrop(3)",
        "RandomFlip(0.5, vertical=0.5)",
        "Resize()",
        "Resize((64, 64))",
        "ColorJitter(0.4, 0.4, 0.4)",
        "GaussianBlur((0.1, 2.0), probability=0.5)",
    ]
