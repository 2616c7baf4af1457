"""The protocol "pysodmetrics" against that toolbox's recorded numbers (benchmarks/record_pysodmetrics.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from goctconv.saliency.metrics import METRICS, SaliencyMetrics
from reference.saliency_pairs import checksum, pairs

RECORDED = json.loads(Path(__file__).with_name("pysodmetrics.json").read_text(encoding="utf-8"))
PAIRS = {pair[0]: pair for pair in pairs()}

# Constant grey maps have no variance, so a part whose mask is constant too is exactly alike. The toolbox's variance is
# a rounding error there, and its S-measure jumps as the grey level changes by 1 (0.90 at 69, 0.59 at 72, 0.76 at 90).
ROUNDED_BY_THE_TOOLBOX = {
    ("grey on one_pixel", "s_measure"),
    ("grey on hole", "s_measure"),
    ("grey on pair_at_6", "s_measure"),
}


def evaluate(names):
    metrics = SaliencyMetrics("pysodmetrics")
    for name in names:
        _, saliency, mask = PAIRS[name]
        metrics.update(torch.from_numpy(saliency.copy()), torch.from_numpy(mask.copy()))
    return metrics.compute()


def check(scores, recorded, name=""):
    """Compare; return how many numbers were compared, and the names of those that the toolbox lacks (NaN)."""
    compared, absent = 0, []
    for metric, expected in recorded["scores"].items():
        actual = getattr(scores, metric)
        assert np.isfinite(actual)
        if expected is None:
            absent.append(metric)
        elif (name, metric) not in ROUNDED_BY_THE_TOOLBOX:
            assert actual == pytest.approx(expected, rel=0, abs=1e-6), metric
            compared += 1
    for curve, expected in recorded["curves"].items():
        actual = [getattr(scores.curves, curve)[level] for level in RECORDED["levels"]]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6, err_msg=curve)
        compared += 1
    return compared, absent


def test_the_pairs_are_the_recorded_ones():
    assert {name: recorded["checksum"] for name, recorded in RECORDED["pairs"].items()} == {
        name: checksum(pair) for name, pair in PAIRS.items()
    }
    assert len(PAIRS) > 60
    assert all(set(recorded["scores"]) == set(METRICS) for recorded in RECORDED["pairs"].values())


@pytest.mark.parametrize("name", PAIRS)
def test_each_pair(name):
    compared, absent = check(evaluate([name]), RECORDED["pairs"][name], name)
    assert compared >= len(METRICS) - 1 + 4
    # Where the centroid lies in the last row or column, a part is empty, and the toolbox's S-measure is 0/0.
    rows, columns = np.nonzero(PAIRS[name][2] > 128)
    height, width = PAIRS[name][2].shape
    partial = 0 < rows.size < height * width
    no_part = partial and (round(rows.mean()) == height - 1 or round(columns.mean()) == width - 1)
    assert absent == (["s_measure"] if no_part else [])


def test_a_data_set():
    recorded = RECORDED["joint"]
    assert len(recorded["of"]) >= 15
    assert check(evaluate(recorded["of"]), recorded) == (len(METRICS) + 4, [])


def test_s_measure_of_constant_maps():
    mask = torch.from_numpy(PAIRS["grey on one_pixel"][2].copy())
    values = []
    for level in range(50, 100):
        metrics = SaliencyMetrics("pysodmetrics", ["s_measure"])
        metrics.update(torch.full_like(mask, level), mask)
        values.append(metrics.compute().s_measure)
    assert max(np.abs(np.diff(values))) < 0.002
