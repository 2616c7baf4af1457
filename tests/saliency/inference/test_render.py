import numpy as np
import pytest
import torch
from PIL import Image

from goctconv.saliency import cutout, grey_map, overlay
from goctconv.saliency.inference import resize_bilinear
from saliency.pictures import gradient


def test_grey_map_truncates():
    probability = np.array([[0.0, 0.999, 1.0, 254.9 / 255, 0.5]], np.float32)
    assert grey_map(probability).tolist() == [[0, 254, 255, 254, 127]]


def test_grey_map_resizes_probabilities_not_grey_levels():
    probability = np.random.default_rng(0).uniform(size=(24, 20)).astype(np.float32)
    expected = (resize_bilinear(probability, (61, 43)) * 255).astype(np.uint8)
    difference = np.abs(grey_map(probability, (61, 43)).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_threshold_is_strict():
    probability = np.array([[0.0, 0.5, 0.75]], np.float32)
    assert grey_map(probability, threshold=0.5).tolist() == [[0, 0, 255]]
    assert grey_map(probability, threshold=0).tolist() == [[0, 255, 255]]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 127, float("nan")])
def test_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match=r"threshold=.* must be a number from 0 to 1"):
        grey_map(np.zeros((2, 2)), threshold=threshold)


def test_cutout_keeps_colours_and_takes_the_map_as_alpha():
    array, grey = gradient(7, 5), np.random.default_rng(1).integers(0, 256, (7, 5), dtype=np.uint8)
    result = np.asarray(cutout(Image.fromarray(array), grey))
    np.testing.assert_array_equal(result[..., :3], array)
    np.testing.assert_array_equal(result[..., 3], grey)


def test_overlay_mixes_the_colour_in():
    array, grey = gradient(7, 5), np.random.default_rng(1).integers(0, 256, (7, 5), dtype=np.uint8)
    result = np.asarray(overlay(Image.fromarray(array), grey, color=(200, 10, 60), strength=0.5))
    share = 0.5 * grey[..., None] / 255
    assert np.abs(result - (array * (1 - share) + share * (200, 10, 60))).max() <= 1.5
    zero = np.asarray(overlay(Image.fromarray(array), np.zeros_like(grey)))
    np.testing.assert_array_equal(zero, array)


@pytest.mark.parametrize("render", [cutout, overlay])
def test_sizes_must_agree(render):
    with pytest.raises(ValueError, match=r"\(5, 7\)> must be of the photograph's \(height, width\) \(7, 5\)"):
        render(Image.new("RGB", (5, 7)), np.zeros((5, 7), np.uint8))


def test_strength_is_a_share():
    with pytest.raises(ValueError, match="strength=2"):
        overlay(Image.new("RGB", (5, 7)), np.zeros((7, 5), np.uint8), strength=2)


@pytest.mark.parametrize("value", [1.2, 1.000005, -0.1, float("nan"), 200.0])
def test_grey_map_refuses_what_is_no_probability(value):
    with pytest.raises(ValueError, match="expected probabilities from 0 to 1"):
        grey_map(np.array([[0.5, value]]))


def test_grey_map_refuses_a_stack():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)> must be \(height, width\)"):
        grey_map(np.zeros((2, 3, 4)))


@pytest.mark.parametrize("render", [cutout, overlay])
def test_arguments_of_the_wrong_kind_are_named(render):
    image, grey = Image.new("RGB", (3, 2)), np.zeros((2, 3), np.uint8)
    with pytest.raises(TypeError, match="must be a Pillow image"):
        render(np.asarray(image), grey)
    with pytest.raises(TypeError, match=r"pass grey_map\(probability\)"):
        render(image, grey / 255)


@pytest.mark.parametrize("probability", [[[0.5]], torch.rand(2, 3)])
def test_grey_map_takes_arrays(probability):
    with pytest.raises(TypeError, match="must be a NumPy array"):
        grey_map(probability)


def test_overlay_of_a_grey_photograph_is_in_colour():
    painted = overlay(Image.new("L", (3, 2)), np.full((2, 3), 255, np.uint8), color=[0, 0, 9], strength=1)
    assert painted.mode == "RGB"
    assert painted.getpixel((0, 0)) == (0, 0, 9)


@pytest.mark.parametrize("color", [(300, 0, 0), (0, 0), (0.5, 0, 0), 5, "red"])
def test_colours_are_checked(color):
    with pytest.raises(ValueError, match="color="):
        overlay(Image.new("RGB", (3, 2)), np.zeros((2, 3), np.uint8), color=color)
