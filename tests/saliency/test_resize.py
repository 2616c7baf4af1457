import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from goctconv.saliency._resize import resize_photograph
from goctconv.saliency.inference import resize_bilinear


def mirror(index, length):
    while not 0 <= index < length:
        index = -index if index < 0 else 2 * (length - 1) - index
        if length == 1:
            return 0
    return index


def slow(image, size):
    """One output pixel at a time, as scipy.ndimage defines mode "mirror"."""
    result = np.zeros((*size, *image.shape[2:]))
    for i in range(size[0]):
        for j in range(size[1]):
            y = (i + 0.5) * image.shape[0] / size[0] - 0.5
            x = (j + 0.5) * image.shape[1] / size[1] - 0.5
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            for row, row_share in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
                for column, column_share in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
                    pixel = image[mirror(row, image.shape[0]), mirror(column, image.shape[1])]
                    result[i, j] += row_share * column_share * pixel
    return result


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    shape=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    channels=st.sampled_from([(), (1,), (3,)]),
)
def test_equals_the_oracle(shape, size, channels):
    image = np.random.default_rng(1).normal(size=(*shape, *channels))
    np.testing.assert_allclose(resize_bilinear(image, size), slow(image, size), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "size"), [((211, 13), (3, 101)), ((13, 211), (101, 3)), ((150, 170), (7, 5))])
def test_equals_the_oracle_far_up_and_down(shape, size):
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_allclose(resize_bilinear(image, size), slow(image.astype(float), size), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(29, 41), (5, 70), (83, 7)])
def test_equals_torch_away_from_the_border(size):
    image = np.random.default_rng(3).normal(size=(17, 23))
    tensor = torch.from_numpy(image)[None, None]
    expected = torch.nn.functional.interpolate(tensor, size, mode="bilinear")[0, 0].numpy()
    inner = tuple(slice(-(-new // old), new - -(-new // old)) for new, old in zip(size, image.shape, strict=True))
    np.testing.assert_allclose(resize_bilinear(image, size)[inner], expected[inner], rtol=0, atol=1e-12)


def test_the_border_is_mirrored():
    np.testing.assert_allclose(resize_bilinear(np.array([[0.0, 4.0]]), (1, 4)), [[1, 1, 3, 3]])


def test_the_same_size_is_the_same_image():
    image = np.random.default_rng(4).normal(size=(31, 17, 3))
    result = resize_bilinear(image, (31, 17))
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (61, 61)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stays_within_the_range(size, dtype):
    image = np.random.default_rng(6).choice(np.array([0, 1, 0.1, 1 - 6e-8], np.float32), (40, 40))
    result = resize_bilinear(image, size, dtype=dtype)
    assert result.dtype == dtype
    assert result.min() >= 0
    assert result.max() <= 1


def test_one_pixel():
    np.testing.assert_array_equal(
        resize_bilinear(np.array([[[3, 5, 7]]], np.uint8), (2, 3)), np.full((2, 3, 3), (3, 5, 7))
    )


@pytest.mark.parametrize(
    ("shape", "size"), [((0, 3), (2, 2)), ((3, 3), (0, 2)), ((3,), (2, 2)), ((1, 2, 3, 4), (2, 2))]
)
def test_nothing_to_resize(shape, size):
    with pytest.raises(ValueError, match=r"image=.* must be"):
        resize_bilinear(np.zeros(shape), size)


@pytest.mark.slow
def test_twelve_megapixels_take_no_seconds():
    image = np.zeros((3000, 4000, 3), np.uint8)
    start = time.perf_counter()
    resize_bilinear(resize_bilinear(image, (224, 224))[..., 0], (3000, 4000), dtype=np.float32)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("shape", "size"), [((1031, 613), (64, 37)), ((257, 70), (64, 64)), ((2048, 5), (32, 32)), ((256, 9), (33, 9))]
)
def test_photographs_are_resized_as_their_arrays(shape, size):
    pixels = np.random.default_rng(7).integers(256, size=(*shape, 3), dtype=np.uint8)
    found = resize_photograph(Image.fromarray(pixels), size)
    np.testing.assert_array_equal(found, resize_bilinear(pixels, size))
