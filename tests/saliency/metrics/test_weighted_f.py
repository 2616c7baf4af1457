"""The weighted F against its formula on whole images: what is cut away has no weight."""

import numpy as np
import pytest
from scipy import ndimage

from goctconv.saliency.metrics._weighted_f import weighted_f
from reference.saliency_pairs import pairs


def formula(saliency, inside):
    """Margolin et al. (2014), on the whole image, with a two-dimensional kernel."""
    error = np.abs(saliency / 255 - inside)
    distance, (rows, columns) = ndimage.distance_transform_edt(~inside, return_indices=True)
    y, x = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-(x**2 + y**2) / (2 * 5**2))
    around = ndimage.convolve(error[rows, columns], kernel / kernel.sum(), mode="constant", cval=0)
    weighted = np.where(inside, np.minimum(error, around), error * (2 - 0.5 ** (distance / 5)))
    hits = inside.sum() - weighted[inside].sum()
    if not hits:
        return 0.0
    precision, recall = hits / (hits + weighted[~inside].sum()), hits / inside.sum()
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("pair", [pair for pair in pairs() if "empty" not in pair[0]], ids=lambda pair: pair[0])
def test_formula(pair):
    _, saliency, mask = pair
    inside = mask > 128
    expected = formula(saliency, inside) if inside.any() else 0.0
    assert weighted_f(saliency / 255, inside) == pytest.approx(expected, abs=1e-12)


def test_a_small_object_in_a_large_dark_map():
    saliency, inside = np.zeros((101, 131), dtype=np.uint8), np.zeros((101, 131), dtype=bool)
    inside[40:50, 60:75] = True
    saliency[38:47, 61:80] = 200
    saliency[90, 3] = 255
    assert weighted_f(saliency / 255, inside) == pytest.approx(formula(saliency, inside), abs=1e-12)
    assert weighted_f(saliency * 0.0, inside) == 0.0


def test_nothing_to_find():
    assert weighted_f(np.full((3, 5), 0.1), np.zeros((3, 5), bool)) == 0.0
