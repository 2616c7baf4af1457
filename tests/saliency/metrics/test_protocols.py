import dataclasses
import json

import numpy as np
import pytest
import torch

from goctconv.saliency.metrics import Protocol, SaliencyMetrics, get_protocol
from reference import saliency_metrics as oracle
from reference.saliency_pairs import pairs

IMAGES = [pair[1:] for pair in pairs() if "blobs" in pair[0] or "empty" in pair[0]]


def evaluate(protocol, images=None, metrics=None):
    result = SaliencyMetrics(protocol, metrics)
    for saliency, mask in images or IMAGES:
        result.update(torch.from_numpy(saliency.copy()), torch.from_numpy(mask.copy()))
    return result.compute()


def changed(**settings):
    return dataclasses.replace(get_protocol("paper"), name="mine", **settings)


def test_the_default_is_the_papers():
    assert SaliencyMetrics().protocol == get_protocol("paper") == Protocol("paper")
    assert [get_protocol(name).name for name in ("paper", "pysodmetrics")] == ["paper", "pysodmetrics"]


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("thresholds", [2, 255, 256])
def test_thresholds(thresholds, inclusive):
    curves = evaluate(changed(thresholds=thresholds, inclusive=inclusive)).curves
    levels = np.linspace(0, 255, thresholds)
    np.testing.assert_allclose(curves.thresholds, levels, rtol=0, atol=1e-12)
    expected = np.mean([oracle.precision_recall(*image, levels, inclusive=inclusive) for image in IMAGES], axis=0)
    np.testing.assert_allclose([curves.precision, curves.recall], expected, rtol=0, atol=1e-12)


def test_rounding():
    probability, mask = torch.rand(13, 17), torch.rand(13, 17) > 0.5
    for rounding, levels in (("truncate", (probability * 255).floor()), ("nearest", (probability * 255).round())):
        first, second = (SaliencyMetrics(changed(rounding=rounding)) for _ in range(2))
        first.update(probability, mask)
        second.update(levels.to(torch.uint8), mask)
        assert first.compute() == second.compute()


def test_averages():
    f = [evaluate(changed(), [image]).curves.f for image in IMAGES]
    scores = evaluate(changed(average="images"))
    np.testing.assert_allclose(scores.curves.f, np.mean(f, axis=0), rtol=0, atol=1e-12)
    adaptive = [evaluate(changed(), [image]).adaptive_f for image in IMAGES]
    assert scores.adaptive_f == pytest.approx(np.mean(adaptive), abs=1e-12)


def test_empty_masks_that_are_skipped():
    full = [image for image in IMAGES if (image[1] > 128).any()]
    skipping, counting, without = evaluate(changed(empty_masks="skip")), evaluate("paper"), evaluate("paper", full)
    assert (skipping.images, skipping.empty_masks) == (len(IMAGES), len(IMAGES) - len(full))
    assert skipping.mae == counting.mae != without.mae
    for name, value in without.scores().items():
        if name != "mae":
            assert skipping.scores()[name] == pytest.approx(value, abs=1e-12)
            assert counting.scores()[name] != pytest.approx(value, abs=1e-3)
    empty = [image for image in IMAGES if not (image[1] > 128).any()]
    with pytest.raises(ValueError, match=r"protocol='mine' skips the masks of all 9 images, which are empty"):
        evaluate(changed(empty_masks="skip"), empty)


def test_binary_masks_in_the_mean_absolute_error():
    binary = [(saliency, np.where(mask > 128, np.uint8(255), np.uint8(0))) for saliency, mask in IMAGES]
    scores = evaluate(changed(grey_masks=False))
    assert scores.mae == pytest.approx(oracle.mean_absolute_error(binary), abs=1e-12)
    assert scores.mae != pytest.approx(evaluate("paper").mae, abs=1e-5)


def test_rescaling():
    stretched = []
    for saliency, mask in IMAGES:
        low, high = saliency.min() / 255, saliency.max() / 255
        values = (saliency / 255 - low) / (high - low) if low < high else saliency / 255
        stretched.append(((values * 255).astype(np.uint8), mask))
    assert evaluate(changed(rescale=True)).curves == evaluate(changed(), stretched).curves
    assert evaluate(changed(rescale=True)).mae == pytest.approx(evaluate(changed(), stretched).mae, abs=1e-12)


def test_the_threshold_of_masks():
    mask = np.array([[0, 99, 100, 101, 255]], dtype=np.uint8)
    curves = evaluate(changed(mask_threshold=100, epsilon=0), [(mask, mask)]).curves
    assert (curves.precision[0], curves.recall[100], curves.recall[101]) == (0.5, 1.0, 0.5)


def test_divisor_of_the_e_measure():
    one = [IMAGES[-1]]
    pixels = one[0][0].size
    both = [evaluate(changed(alignment_divisor=divisor), one).mean_e for divisor in ("N", "N - 1")]
    assert both[1] == pytest.approx(both[0] * pixels / (pixels - 1), abs=1e-12)


def test_the_weight_of_precision():
    curves = evaluate(changed(beta_squared=1)).curves
    precision, recall = np.array(curves.precision), np.array(curves.recall)
    np.testing.assert_allclose(curves.f, 2 * precision * recall / (precision + recall), rtol=0, atol=1e-12)


def test_the_report_names_the_protocol():
    scores = evaluate(changed(thresholds=255, empty_masks="skip"), metrics=["max_f", "mae"])
    assert "protocol mine: maps truncated to 8 bits, not rescaled; 255 thresholds, >;" in str(scores)
    assert f"{len(IMAGES)} images (9 with empty masks)" in str(scores)
    report = json.loads(json.dumps(scores.to_dict()))
    assert Protocol(**report["protocol"]) == scores.protocol
    assert report["scores"] == scores.scores()
    assert len(report["curves"]["precision"]) == 255
    assert "pysodmetrics: maps truncated to 8 bits, rescaled; 256 thresholds, >=; F averaged" in str(
        evaluate("pysodmetrics")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": 1}, "thresholds=1"),
        ({"rounding": "up"}, "rounding='up' must be one of 'truncate', 'nearest'"),
        ({"average": "all"}, "average='all'"),
        ({"empty_masks": "drop"}, "empty_masks='drop'"),
        ({"alignment_divisor": "n"}, "alignment_divisor='n'"),
        ({"mask_threshold": 255}, "mask_threshold=255"),
        ({"epsilon": -1}, "epsilon=-1"),
        ({"beta_squared": 0}, "beta_squared=0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        changed(**settings)


def test_unknown_names():
    with pytest.raises(
        ValueError, match=r"protocol='papr' must be one of 'paper', 'pysodmetrics'; did you mean 'paper'"
    ):
        SaliencyMetrics("papr")
    with pytest.raises(ValueError, match="or pass a Protocol of your own"):
        get_protocol("xyz")
