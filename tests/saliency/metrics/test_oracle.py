"""The default protocol against slow loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from goctconv.saliency.metrics import SaliencyMetrics
from reference import saliency_metrics as oracle
from reference.saliency_pairs import pairs

PAIRS = pairs()


def evaluate(images, protocol="paper", metrics=None):
    result = SaliencyMetrics(protocol, metrics)
    for saliency, mask in images:
        result.update(torch.from_numpy(saliency.copy()), torch.from_numpy(mask.copy()))
    return result.compute()


def close(actual, expected):
    return np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12) is None


def check(images):
    scores = evaluate(images)
    precision, recall, f = oracle.data_set_f(images)
    assert close(scores.curves.precision, precision)
    assert close(scores.curves.recall, recall)
    assert close(scores.curves.f, f)
    assert close([scores.max_f, scores.mean_f], [f.max(), f.mean()])
    assert close(scores.mae, oracle.mean_absolute_error(images))
    assert close(scores.adaptive_f, oracle.adaptive_f(images))
    assert close(scores.s_measure, np.mean([oracle.s_measure(*image) for image in images]))
    return scores


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_one_pair(pair):
    check([pair[1:]])


def test_all_pairs():
    scores = check([pair[1:] for pair in PAIRS])
    assert (scores.images, scores.empty_masks) == (len(PAIRS), sum(not (mask > 128).any() for *_, mask in PAIRS))


@pytest.mark.slow
@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(st.data())
def test_any_pair(data):
    shape = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    levels = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 129, 254, 255]))
    saliency, mask = (data.draw(arrays.arrays(np.uint8, shape, elements=levels)) for _ in range(2))
    if mask.max() == 1:
        mask[mask == 1] = 255
    check([(saliency, mask)])


@pytest.mark.parametrize("pair", PAIRS[::7], ids=lambda pair: pair[0])
def test_e_measure(pair):
    _, saliency, mask = pair
    scores = evaluate([(saliency, mask)], metrics=["max_e", "mean_e", "adaptive_e"])
    expected = [oracle.e_measure(saliency > threshold, mask) for threshold in range(256)]
    assert close(scores.curves.e, expected)
    assert close([scores.max_e, scores.mean_e], [np.max(expected), np.mean(expected)])
    adaptive = oracle.e_measure(saliency >= min(2 * saliency.mean(), 255), mask)
    assert close(scores.adaptive_e, adaptive)


def test_a_right_map_is_right():
    for mask in (PAIRS[-1][2], PAIRS[5][2] | 255):
        binary = np.where(mask > 128, np.uint8(255), np.uint8(0))
        scores = evaluate([(binary, binary)]).scores()
        right = {name: value for name, value in scores.items() if name not in {"mean_f", "mean_e", "mae"}}
        assert len(right) == 6
        assert close(list(right.values()), [1] * 6)
        assert scores["mae"] == 0
