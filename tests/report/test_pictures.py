"""What the pictures show is what went in, whatever form it had; what cannot be drawn is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import goctconv
from goctconv import DynamicWeightDecay, prune_channels
from goctconv.report import plots
from goctconv.report.plots._picture import Bars, Cells, Line, Rule

from .pictures import FADING, ROWS

COLUMNS = {key: [row[key] for row in ROWS] for key in ROWS[0]}
ARRAYS = {key: np.array(values, dtype=float) for key, values in COLUMNS.items()}

EDGES = [exponent / 2 for exponent in range(-50, 5)]


def counted(values: np.ndarray) -> list[int]:
    return np.histogram(np.log10(np.maximum(values, 1e-24)), EDGES)[0].tolist()


LEARNED = {  # as goctconv.training keeps it: measurements within rows, and lists that are no columns
    "epochs": [
        {"phase": "train", "epoch": row["epoch"], "loss": row["loss"], "validation": {"mae": row["mae"]},
         "histogram": counted(10.0 ** np.linspace(-row["epoch"], 0, 300))}
        for row in ROWS
    ],
    "steps": {"epoch": [1, 1, 2], "loss": [0.9, 0.8, 0.7]},
    "histogram_edges": EDGES,
    "quantiles": [0, 0.5, 1],
}  # fmt: skip


class Recorded:
    """A history of another kind."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def to_dict(self) -> Any:
        return self.data


def marks(picture: plots.Picture, kind: type) -> list[Any]:
    return [mark for panel in picture.panels for mark in panel.marks if isinstance(mark, kind)]


FORMS = {
    "columns": COLUMNS,
    "arrays": ARRAYS,
    "rows": ROWS,
    "object of columns": Recorded(COLUMNS),
    "object of rows": Recorded(ROWS),
    "rows inside": {"rows": ROWS, "version": 1},
    "epochs beside other lists": Recorded(LEARNED),
    "with other things": {**COLUMNS, "model": "csnet_x1", "seed": 0},
}


@pytest.mark.parametrize("history", FORMS.values(), ids=FORMS)
def test_histories_of_every_form_are_alike(history: Any) -> None:
    loss, mae = marks(plots.learning_curves({"mine": history}), Line)
    assert dict(zip(loss.x, loss.y, strict=True)) == {row["epoch"]: row["loss"] for row in ROWS}
    measured = {x: y for x, y in zip(mae.x, mae.y, strict=True) if not math.isnan(y)}
    assert measured == {row["epoch"]: row["mae"] for row in ROWS if row["mae"] is not None}


def test_rows_may_lack_keys_and_be_out_of_order() -> None:
    (line,) = marks(
        plots.learning_curves({"mine": [{"epoch": 2, "loss": 1}, {"epoch": 1, "loss": 3}, {}]}, ["loss"]), Line
    )
    assert (line.x, line.y) == ((1, 2), (3, 1))


def test_a_run_without_a_key_is_left_out_of_its_panel() -> None:
    picture = plots.learning_curves({"a": {"loss": [1, 2], "mae": [3, 4]}, "b": {"loss": [5, 6]}})
    assert [[mark.series for mark in panel.marks] for panel in picture.panels] == [[0, 1], [0]]


def test_events_are_on_the_axis() -> None:
    picture = plots.learning_curves({"a": {"loss": [1, 2]}}, ["loss"], events={"pruned": 30})
    assert marks(picture, Rule) == [Rule(30, "pruned")]
    assert picture.panels[0].x.limits[1] >= 30


def test_logarithmic_curves() -> None:
    (panel,) = plots.learning_curves({"a": {"loss": [1, 1e-6, math.nan]}}, ["loss"], log=True).panels
    assert panel.y.is_log
    assert panel.y.share(1e-3) == pytest.approx(0.5, abs=0.01)


def model_of(*scales: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, len(scales), 1), nn.BatchNorm2d(len(scales)), nn.BatchNorm2d(2, affine=False))
    model[1].weight.data.copy_(torch.tensor(scales))
    return model


SOURCES: list[Callable[[], Any]] = [
    lambda: model_of(0.5, -0.25, 0),
    lambda: torch.tensor([0.5, -0.25, 0]),
    lambda: [0.5, -0.25, 0, None],
    lambda: {"a": [0.5], "b": torch.tensor([[-0.25], [0]])},
]


@pytest.mark.parametrize("source", SOURCES, ids=["network", "tensor", "list", "layers"])
def test_scales_of_every_form_are_counted(source: Callable[[], Any]) -> None:
    picture = plots.gamma_distribution({"mine": source()}, threshold=1e-20)
    (bars,) = marks(picture, Bars)
    counted = {round(10 ** ((a + b) / 2), 2): n for a, b, n in zip(bars.left, bars.right, bars.height, strict=True)}
    assert sum(counted.values()) == 3
    assert min(bars.left) == pytest.approx(-24)
    assert "has 3, of which 1 (33.3%) are below 1e-20, median 0.25" in picture.description


def test_scales_of_some_layers() -> None:
    model = goctconv.create_model("csnet_x1")
    names = model.dynamic_decay_names()
    count = sum(model.get_submodule(name).num_features for name in names)
    assert f"has {count}," in plots.gamma_distribution({"mine": model}, layers=names).description
    with pytest.raises(ValueError, match=r"layers names 'stages'.*there are stages\.0\.0\.norm1\.0"):
        plots.gamma_distribution({"mine": model}, layers=["stages"])


@pytest.mark.parametrize("low", [1e-24, 1e-3, 0.99])
def test_every_scale_is_in_a_bar(low: float) -> None:
    values = np.geomspace(low, 1, 500)
    for picture in (plots.gamma_distribution({"a": values}), plots.gamma_distribution({"a": values}, log_counts=True)):
        assert sum(sum(bars.height) for bars in marks(picture, Bars)) == 500


def recorded_optimizer() -> DynamicWeightDecay:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), 0.1), model, history=2)
    for _ in range(6):
        model(torch.rand(2, 3, 8, 8)).mean().backward()
        optimizer.step()
    return optimizer


HISTORIES: list[Callable[[], Any]] = [
    lambda: FADING,
    lambda: np.stack(FADING),
    lambda: torch.tensor(np.stack(FADING)),
    lambda: {"epoch": [1, 2, 3, 4, 5], "scales": FADING},
    lambda: [{"epoch": time, "scales": row} for time, row in enumerate(FADING, 1)] + [{"epoch": 6}],
]


@pytest.mark.parametrize("history", HISTORIES, ids=["list", "array", "tensor", "columns", "rows"])
def test_scales_over_time_of_every_form(history: Callable[[], Any]) -> None:
    picture = plots.gamma_over_time(history(), threshold=1e-3)
    (cells,) = marks(picture, Cells)
    assert len(cells.shares) == 5
    assert all(sum(column) == pytest.approx(1) for column in cells.shares)
    assert "epoch 5: 4 channels, 2 below 0.001" in cells.tips[-1]
    assert picture.panels[0].x.label == "epoch"


def test_scales_that_the_optimizer_has_recorded() -> None:
    optimizer = recorded_optimizer()
    picture = plots.gamma_over_time(optimizer.history, kind="quantiles")
    middle = marks(picture, Line)[0]
    assert middle.x == (2, 4, 6)
    expected = optimizer.history.gammas().abs().double().median(1).values.log10()
    np.testing.assert_allclose(middle.y, expected)
    assert picture.panels[0].x.label == "step"


def test_a_history_that_tells_its_edges_needs_no_more() -> None:
    picture = plots.gamma_over_time(Recorded(LEARNED))
    (cells,) = marks(picture, Cells)
    assert (len(cells.shares), cells.y_edges[0], picture.panels[0].x.label) == (len(ROWS), -7, "epoch")
    flat = {"epoch": [1], "histogram": [LEARNED["epochs"][0]["histogram"]], "histogram_edges": EDGES}
    assert marks(plots.gamma_over_time(flat), Cells)[0].y_edges[0] == -1


def test_histograms_do_where_the_scales_were_not_kept() -> None:
    history = {"epoch": [1, 2, 3], "gamma": [counted(10.0 ** np.linspace(-time, 0, 400)) for time in (1, 2, 4)]}
    (cells,) = marks(plots.gamma_over_time(history, key="gamma", edges=EDGES, threshold=1e-2), Cells)
    assert cells.y_edges[0] == -4
    assert plots.gamma_over_time([[5, 1]], edges=[-25, 0, 1]).panels[0].y.ticks[0] == (-25, "≤ 1e-25")
    np.testing.assert_allclose(cells.shares[-1], [counts / 400 for counts in history["gamma"][-1] if counts])
    assert "epoch 3: 400 channels, about 200 below 0.01" in cells.tips[-1]
    lines = marks(plots.gamma_over_time(history, key="gamma", edges=EDGES, kind="quantiles"), Line)
    np.testing.assert_allclose(lines[0].y, [-0.5, -1, -2], atol=0.03)
    np.testing.assert_allclose(lines[-1].y, [-0.1, -0.2, -0.4], atol=0.03)


def test_fewer_channels_after_pruning() -> None:
    assert "4 to 2 channels" in plots.gamma_over_time([*FADING, [1, 0.9]]).description


def test_long_histories_are_thinned_to_what_can_be_seen() -> None:
    (cells,) = marks(plots.gamma_over_time(np.ones((1000, 3))), Cells)
    assert len(cells.shares) <= 102
    assert "epoch 1000" in cells.tips[-1]


def test_a_single_time() -> None:
    (cells,) = marks(plots.gamma_over_time([[1, 0.1]]), Cells)
    assert len(cells.shares) == 1


def widths(picture: plots.Picture) -> dict[str, list[tuple[float, ...]]]:
    """Return heights of bars by panel title, the backdrop first."""
    return {panel.title: [mark.height for mark in panel.marks] for panel in picture.panels}


def test_widths_of_a_csnet_are_those_of_its_blocks() -> None:
    learned = goctconv.create_model("csnet_x1_l")
    picture = plots.channel_widths({"×1": goctconv.create_model("csnet_x1").channels, "×1-L": learned})
    stages = [width for stage in learned.channels["stages"] for width in stage]
    high = [width if isinstance(width, int) else width[0] for width in stages]
    low = [0 if isinstance(width, int) else width[1] for width in stages]
    found = widths(picture)
    assert list(found) == ["high resolution", "low resolution"]
    assert [list(found[title][1]) for title in found] == [high, low]
    assert (picture.backdrop, picture.series) == ("×1", ("×1-L",))


def test_the_report_of_a_csnet_is_shown_by_blocks_too() -> None:
    torch.manual_seed(0)
    model = goctconv.create_model("csnet_x1")
    with torch.no_grad():
        for name in model.dynamic_decay_names():
            model.get_submodule(name).weight.uniform_()
    result = prune_channels(model, torch.zeros(1, 3, 32, 32), threshold=0.5, bn_bias="zero", verify=False)
    networks = plots.channel_widths({"before": model, "after": result.model})
    assert widths(plots.channel_widths(result.report)) == widths(networks)


def test_widths_of_other_networks_are_those_of_their_layers() -> None:
    model = timm.create_model("test_resnet")
    layers = {name: norm.num_features for name, norm in model.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    (panel,) = plots.channel_widths({"mine": model}).panels
    assert panel.marks[0].height == tuple(layers.values())
    assert [name for _, name in panel.x.ticks] == list(layers)


def test_many_layers_are_spread_over_rows() -> None:
    layers = {f"layer {index}": index for index in range(155)}
    panels = plots.channel_widths({"mine": layers, "slim": layers}).panels
    assert [len(panel.marks[0].height) for panel in panels] == [39, 39, 38, 39]
    assert [height for panel in panels for height in panel.marks[1].height] == list(range(155))


def test_layers_that_are_gone_have_no_channels() -> None:
    assert widths(plots.channel_widths({"a": {"x": 3, "y": 4}, "b": {"y": 2}})) == {"": [(3, 4), (0, 2)]}


def test_deviations_keep_their_layers() -> None:
    (panel,) = plots.output_deviation({"a": [0.5, 0.25], "b": {"2": 0.75, "3": 1}}).panels
    assert [name for _, name in panel.x.ticks] == ["1", "2", "3"]
    np.testing.assert_equal([mark.height for mark in panel.marks], [(0.5, 0.25, math.nan), (math.nan, 0.75, 1)])


def test_complexity_is_sorted_and_complete() -> None:
    picture = plots.complexity({"a": [(2e5, 0.9, "two"), (1e5, 0.8), (3e5, None)], "b": [(1e6, 0.95)]}, joined=False)
    one, two = marks(picture, Line)
    assert (one.x, one.y, one.labels) == ((1e5, 2e5), (0.8, 0.9), ("", "two"))
    assert (two.x, two.is_joined) == ((1e6,), False)
    assert picture.panels[0].x.is_log


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: plots.learning_curves({}), ValueError, "runs is empty"),
    (lambda: plots.learning_curves(COLUMNS), TypeError, "runs is a history itself"),
    (lambda: plots.learning_curves({"a": 3}), TypeError, "run 'a' is int 3, expected lists by key"),
    (lambda: plots.learning_curves(ROWS), TypeError, "runs is list, expected histories by name"),
    (lambda: plots.learning_curves({1: COLUMNS}), TypeError, "has the key 1, expected a name"),
    (lambda: plots.learning_curves({"a": {"loss": []}}), ValueError, "run 'a' is empty"),
    (lambda: plots.learning_curves({"a": []}), ValueError, "run 'a' is empty"),
    (lambda: plots.learning_curves({"a": {**LEARNED, "epochs": []}}), ValueError, "run 'a' is empty"),
    (lambda: plots.learning_curves({"a": {"loss": [1], "mae": [1, 2]}}), ValueError, "different lengths"),
    (lambda: plots.learning_curves({"a": COLUMNS}, ["f"]), KeyError, "no run has 'f': there are epoch, loss, mae"),
    (lambda: plots.learning_curves({"a": COLUMNS}, ["loss"], x="epochs"), KeyError, "run 'a' has no 'epochs'"),
    (lambda: plots.learning_curves({"a": COLUMNS}, "loss"), ValueError, "keys='loss' must list"),
    (lambda: plots.learning_curves({"a": {"loss": ["x"]}}, ["loss"]), TypeError, "'loss' of run 'a' is list"),
    (lambda: plots.learning_curves({"a": {"loss": [math.nan]}}, ["loss"]), ValueError, "no finite value in any run"),
    (lambda: plots.learning_curves({"a": {"loss": [0, 1]}}, ["loss"], log=True), ValueError, "leave log=True out"),
    (lambda: plots.gamma_distribution({}), ValueError, "networks is empty"),
    (lambda: plots.gamma_distribution({"a": []}), ValueError, "network 'a' has no γ"),
    (lambda: plots.gamma_distribution({"a": [math.nan]}), ValueError, "has no γ that is a number"),
    (lambda: plots.gamma_distribution({"a": nn.ReLU()}), ValueError, "has no BatchNorm with a scale"),
    (lambda: plots.gamma_distribution({"a": [1]}, threshold=0), ValueError, "threshold=0 must be a positive number"),
    (lambda: plots.gamma_over_time([]), ValueError, "holds no γ"),
    (lambda: plots.gamma_over_time(3), TypeError, "history is int"),
    (lambda: plots.gamma_over_time(FADING, kind="lines"), ValueError, "one of histogram, quantiles"),
    (lambda: plots.gamma_over_time(FADING, smallest=-1), ValueError, "smallest=-1 must be"),
    (lambda: plots.gamma_over_time(COLUMNS), KeyError, "no 'scales': it has epoch, loss, mae"),
    (lambda: plots.gamma_over_time([[1, 2]], edges=[0, 1]), ValueError, "edges has 2 numbers, and entry 0"),
    (lambda: plots.gamma_over_time([[0, 0]], edges=[0, 1, 2]), ValueError, "expected how many channels lie between"),
    (lambda: plots.channel_widths({}), ValueError, "networks is empty"),
    (lambda: plots.channel_widths({"a": {}}), ValueError, "have no channels"),
    (lambda: plots.channel_widths({"a": {"x": 1.5}}), TypeError, "1.5 channels in 'x'"),
    (lambda: plots.channel_widths({"a": {"x": -1}}), TypeError, "-1 channels in 'x'"),
    (lambda: plots.channel_widths({"a": 7}), TypeError, "network 'a' is int"),
    (lambda: plots.channel_widths({"a": {"0.0": 3}, "b": {"x": 3}}), TypeError, "mixes CSNets"),
    (lambda: plots.output_deviation({"a": {}}), ValueError, "no finite value"),
    (lambda: plots.output_deviation({"a": {"x": "y"}}), TypeError, "a is list"),
    (lambda: plots.complexity({"a": []}), ValueError, "no point with a cost and a score"),
    (lambda: plots.complexity({"a": [(0, 1)]}), ValueError, "costs must be above 0"),
    (lambda: plots.complexity({"a": [1]}), TypeError, r"point 0 of a is 1, expected \(cost, score\)"),
]


@pytest.mark.parametrize(("draw", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw()
