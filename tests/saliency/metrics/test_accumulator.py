import copy
import io
import pickle
import sys

import numpy as np
import pytest
import torch

from goctconv.saliency.metrics import METRICS, SaliencyMetrics, get_protocol


def images(count=6, seed=5, size=(11, 17)):
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(count, 1, *size, generator=generator) > 0.6).to(torch.uint8) * 255
    masks[1] = 0
    masks[2] = 255
    noise = torch.randint(0, 256, masks.shape, generator=generator)
    return (0.5 * masks + 0.5 * noise).to(torch.uint8), masks


def same(first, second, tolerance=1e-13):
    """Compare everything that two reports hold; return how many numbers that were."""
    a, b = first.to_dict(), second.to_dict()
    assert (a["protocol"], a["images"], a["empty_masks"]) == (b["protocol"], b["images"], b["empty_masks"])
    numbers = 0
    for part in ("scores", "curves"):
        assert a[part].keys() == b[part].keys()
        for name in a[part]:
            np.testing.assert_allclose(a[part][name], b[part][name], rtol=0, atol=tolerance, err_msg=name)
            numbers += np.size(a[part][name])
    return numbers


EVERYTHING = len(METRICS) + 5 * 256


@pytest.fixture(params=["paper", "pysodmetrics"])
def filled(request):
    metrics = SaliencyMetrics(request.param)
    metrics.update(*images())
    return metrics


def test_a_batch_is_its_images(filled):
    single = SaliencyMetrics(filled.protocol)
    for saliency, mask in zip(*images(), strict=True):
        single.update(saliency[0], mask)
    assert same(filled.compute(), single.compute()) == EVERYTHING


def test_merged_is_joint(filled):
    parts = [SaliencyMetrics(filled.protocol) for _ in range(4)]  # the last one stays empty
    for index, (saliency, mask) in enumerate(zip(*images(), strict=True)):
        parts[index % 3].update(saliency, mask)
    before = parts[1].images
    merged = SaliencyMetrics(filled.protocol)
    for part in parts:
        assert merged.merge(part) is merged
    assert same(filled.compute(), merged.compute()) == EVERYTHING
    assert parts[1].images == before == 2
    merged.update(*images())
    assert parts[0].images == 2  # nothing is shared


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))])  # noqa: S301
def test_copies(filled, clone):
    again = clone(filled)
    assert same(filled.compute(), again.compute(), 0) == EVERYTHING
    again.update(*images(seed=6))
    assert (again.images, filled.images) == (12, 6)


def test_state_dict(filled):
    stream = io.BytesIO()
    torch.save(filled.state_dict(), stream)
    stream.seek(0)
    again = SaliencyMetrics(filled.protocol)
    again.load_state_dict(torch.load(stream, weights_only=True))
    assert same(filled.compute(), again.compute(), 0) == EVERYTHING
    other = SaliencyMetrics(filled.protocol, ["mae"])
    with pytest.raises(ValueError, match=r"metrics=.* must be \('mae',\) as they are here"):
        other.load_state_dict(filled.state_dict())


def test_reset(filled):
    filled.reset()
    assert filled.images == 0
    with pytest.raises(ValueError, match=r"images=0 must be at least 1: call update"):
        filled.compute()


def test_compute_changes_nothing(filled):
    first = filled.compute()
    assert first == filled.compute()
    filled.update(*images(seed=6))
    assert first.images == 6


def test_what_is_not_asked_for_is_none():
    metrics = SaliencyMetrics(metrics=["mae", "max_f"])
    assert metrics.metrics == ("max_f", "mae")
    metrics.update(*images())
    scores = metrics.compute()
    assert list(scores.scores()) == ["max_f", "mae"]
    assert (scores.mean_f, scores.s_measure, scores.weighted_f, scores.curves.e) == (None, None, None, None)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_alone(name):
    alone, all_of_them = SaliencyMetrics(metrics=[name]), SaliencyMetrics()
    for metrics in (alone, all_of_them):
        metrics.update(*images())
    assert alone.compute().scores() == {name: all_of_them.compute().scores()[name]}


def test_what_cannot_be_merged(filled):
    other = "paper" if filled.protocol.name == "pysodmetrics" else "pysodmetrics"
    with pytest.raises(ValueError, match=r"protocol=.* is \[.*their numbers cannot be averaged"):
        filled.merge(SaliencyMetrics(other))
    with pytest.raises(ValueError, match=r"construct all with the same metrics"):
        filled.merge(SaliencyMetrics(filled.protocol, ["mae"]))
    with pytest.raises(TypeError, match="other=0 must be SaliencyMetrics"):
        filled.merge(0)
    assert filled.images == 6


@pytest.mark.parametrize(
    ("names", "message"),
    [(["max_f", "maxf"], "'maxf'"), ([], r"metrics=\[\] must be a list"), ("mae", "metrics='mae' must be a list")],
)
def test_unknown_metrics(names, message):
    with pytest.raises(ValueError, match=message):
        SaliencyMetrics(metrics=names)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(ImportError, match=r"pip install goctconv\[eval\]"):
        SaliencyMetrics()
    metrics = SaliencyMetrics(get_protocol("paper"), [name for name in METRICS if name != "weighted_f"])
    metrics.update(*images())
    assert len(metrics.compute().scores()) == len(METRICS) - 1
