import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from goctconv.saliency import Predictor, predict, refine_cutout, remove_background
from markdown_blocks import ROOT
from saliency.pictures import encode, gradient, save


class Bright(nn.Module):
    """Takes what is bright for the object."""

    def forward(self, images):
        return 8 * images.mean(1, keepdim=True)


@pytest.fixture
def photograph():
    picture = Image.new("RGB", (90, 60), (10, 20, 40))
    picture.paste((250, 240, 200), (30, 15, 70, 45))
    return picture


def test_every_kind_of_image(photograph, tmp_path):
    path = save(tmp_path / "a.png", np.asarray(photograph))
    found = remove_background(photograph, model=Bright())
    assert (found.mode, found.size) == ("RGBA", (90, 60))
    np.testing.assert_allclose(found.getbbox(), (30, 15, 70, 45), atol=2)
    for image in (path, str(path), encode(photograph), np.asarray(photograph)):
        np.testing.assert_array_equal(np.asarray(remove_background(image, model=Bright())), np.asarray(found))


def test_it_is_the_networks_map_refined(photograph):
    predictor = Predictor(Bright(), size=48)
    (probability,) = predictor.each([photograph], lambda _, found, __: found)
    expected = refine_cutout(photograph, probability.value, threshold=0.5).rendered("white", crop=True)
    found = remove_background(photograph, predictor=predictor, threshold=0.5, background="white", crop=True)
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_maps_of_predict_can_be_refined_too(photograph):
    (probability,) = predict(Bright(), [photograph], size=48)
    np.testing.assert_allclose(refine_cutout(photograph, probability).box, (30, 15, 70, 45), atol=2)


def test_the_default_network_needs_no_consent(monkeypatch):
    """Of a donkey on a meadow about the donkey is left, and its colours are those of the photograph."""
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)
    file = ROOT / "examples" / "photographs" / "donkey.jpg"
    found = remove_background(file)
    with Image.open(file) as photograph:
        assert found.size == photograph.size
    assert found.mode == "RGBA"
    opaque = np.asarray(found)[..., 3] > 200
    assert 0.1 < opaque.mean() < 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": Bright(), "predictor": Predictor(Bright())}, "pass one of model and predictor"),
        ({"predictor": Bright()}, "predictor=.* must be a goctconv.saliency.Predictor"),
        ({"model": Bright(), "crop": 1}, "crop=1 must be True or False"),
        ({"model": Bright(), "background": "nothing"}, "background='nothing' must be a colour"),
        ({"model": torch.zeros(2)}, "model="),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        remove_background(gradient(), **options)
