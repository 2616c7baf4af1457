"""Pictures show the data that went in, whatever form it had; data that cannot be drawn is refused."""

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
from goctconv import ArgumentError, DynamicWeightDecay, prune_channels
from goctconv.pruning import PruningReport
from goctconv.pruning._report import PrunedLayer
from goctconv.report import (
    Picture,
    channel_widths,
    complexity,
    gamma_distribution,
    gamma_over_time,
    learning_curves,
    output_deviation,
)
from goctconv.report._theme import compact, shorten
from goctconv.training import TrainingHistory
from goctconv.training._history import EpochRecord

from .pictures import FADING, ROWS, axes_of, bars, cells, curves, heights, rules, texts, ticks, tips

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
    loss, mae = curves(learning_curves({"mine": history}))
    assert dict(zip(*loss, strict=True)) == {row["epoch"]: row["loss"] for row in ROWS}
    measured = {x: y for x, y in zip(*mae, strict=True) if not math.isnan(y)}
    assert measured == {row["epoch"]: row["mae"] for row in ROWS if row["mae"] is not None}


def test_rows_may_lack_keys_and_be_out_of_order() -> None:
    picture = learning_curves({"mine": [{"epoch": 2, "loss": 1}, {"epoch": 1, "loss": 3}, {}]}, ["loss"])
    assert curves(picture) == [([1, 2], [3, 1])]


def test_a_run_without_a_key_is_left_out_of_its_panel() -> None:
    picture = learning_curves({"a": {"loss": [1, 2], "mae": [3, 4]}, "b": {"loss": [5, 6]}})
    assert [len(axes.lines) for axes in axes_of(picture)] == [2, 1]
    assert [axes.get_title(loc="left") for axes in axes_of(picture)] == ["loss", "mae"]


def test_events_are_on_the_axis() -> None:
    picture = learning_curves({"a": {"loss": [1, 2]}}, ["loss"], events={"pruned": 30})
    assert rules(picture) == [(30, "pruned")]
    assert axes_of(picture)[0].get_xlim()[1] >= 30
    over_time = gamma_over_time(FADING, events={"pruned": 9})
    assert rules(over_time) == [(9, "pruned")]
    assert axes_of(over_time)[0].get_xlim()[1] >= 9


def test_every_panel_may_have_its_own_axis() -> None:
    scores = {"mine": {"precision": [0.5, 0.9], "recall": [1, 0.6], "f": [0.6, 0.8], "threshold": [0, 255]}}
    picture = learning_curves(scores, ("precision", "f"), x=("recall", "threshold"))
    assert curves(picture) == [([0.6, 1], [0.9, 0.5]), ([0, 255], [0.6, 0.8])]
    assert [axes.get_xlabel() for axes in axes_of(picture)] == ["recall", "threshold"]


def test_logarithmic_curves() -> None:
    (axes,) = axes_of(learning_curves({"a": {"loss": [1, 1e-6, math.nan]}}, ["loss"], log=True))
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert low < 1e-6
    assert high > 1


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
def test_gammas_of_every_form_are_counted(source: Callable[[], Any]) -> None:
    picture = gamma_distribution({"mine": source()}, threshold=1e-20)
    ((found,),) = bars(picture)
    starts = [left for left, _, _ in found]
    assert [max(start for start in starts if start <= value * 1.001) for value in (1e-24, 0.25, 0.5)] == starts
    assert [height for _, _, height in found] == [1, 1, 1]
    assert min(left for left, _, _ in found) == pytest.approx(1e-24)
    assert rules(picture) == [(1e-20, "threshold 1e-20")]
    assert "has 3, of which 1 (33.3%) are below the threshold 1e-20, median 0.25" in picture.description


def test_channels_below_the_threshold_are_counted_and_called_so() -> None:
    """They may be far from 0: a run's threshold may be 0.385."""
    gammas = [0.1, 0.3, 0.38, 0.4, 0.9]
    description = gamma_distribution({"mine": gammas}, threshold=0.385).description
    assert "of which 3 (60.0%) are below the threshold 0.385" in description
    (tip,) = tips(gamma_over_time([gammas], threshold=0.385))
    assert "5 channels, 3 below the threshold 0.385" in tip
    assert not any(word in description + tip for word in ("dead", "faded"))


def test_gammas_of_some_layers() -> None:
    model = goctconv.create_model("csnet_x1")
    names = model.dynamic_decay_names()
    count = sum(model.get_submodule(name).num_features for name in names)
    assert f"has {count}," in gamma_distribution({"mine": model}, layers=names).description
    with pytest.raises(ArgumentError, match=r"layers='stages' must be .* such as 'stages\.0\.0\.norm1\.0'"):
        gamma_distribution({"mine": model}, layers=["stages"])


@pytest.mark.parametrize("low", [1e-24, 1e-3, 0.99])
@pytest.mark.parametrize("log_counts", [False, True])
def test_every_gamma_is_in_a_bar(low: float, log_counts: bool) -> None:
    picture = gamma_distribution({"a": np.geomspace(low, 1, 500)}, log_counts=log_counts)
    ((found,),) = heights(picture)
    assert sum(found) == 500
    (axes,) = axes_of(picture)
    assert axes.get_yscale() == ("log" if log_counts else "linear")
    assert axes.get_xlim()[0] <= low <= 1 <= axes.get_xlim()[1]


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
    lambda: {"epoch": [1, 2, 3, 4, 5], "gamma": FADING},
    lambda: [{"epoch": time, "gamma": row} for time, row in enumerate(FADING, 1)] + [{"epoch": 6}],
]


@pytest.mark.parametrize("history", HISTORIES, ids=["list", "array", "tensor", "columns", "rows"])
def test_gammas_over_time_of_every_form(history: Callable[[], Any]) -> None:
    picture = gamma_over_time(history(), threshold=1e-3)
    assert len(tips(picture)) == 5
    assert "epoch 5: 4 channels, 2 below the threshold 0.001" in tips(picture)[-1]
    assert axes_of(picture)[0].get_xlabel() == "epoch"
    assert cells(picture) == {0.2: 0, 0.35: 0, 0.53: 0, 0.75: 18, 1.0: 1}  # at first, two share a bin


def test_cells_are_where_the_gammas_are() -> None:
    (axes,) = axes_of(gamma_over_time([[1e-3, 1e-3, 0.5], [1e-5, 0.5, 0.5]]))
    boxes = {
        (round(box[:, 0].mean(), 6), round(float(np.log10(box[:, 1]).mean()), 2)): patch.get_alpha()
        for patch in axes.patches
        for box in patch.get_path().vertices.reshape(-1, 5, 2)[:, :4]
    }
    assert boxes == {(1, -2.95): 1.0, (1, -0.35): 1.0, (2, -4.95): 1.0, (2, -0.35): 1.0}


def test_gammas_that_the_optimizer_has_recorded() -> None:
    optimizer = recorded_optimizer()
    picture = gamma_over_time(optimizer.history, kind="quantiles")
    x, median = curves(picture)[0]
    assert x == [2, 4, 6]
    expected = optimizer.history.gammas().abs().double().median(1).values
    np.testing.assert_allclose(median, expected, rtol=1e-6)
    assert axes_of(picture)[0].get_xlabel() == "step"


def test_a_history_that_tells_its_edges_needs_no_more() -> None:
    picture = gamma_over_time(Recorded(LEARNED))
    assert len(tips(picture)) == len(ROWS)
    assert axes_of(picture)[0].get_ylim()[0] == pytest.approx(1e-7)
    flat = {"epoch": [1], "histogram": [LEARNED["epochs"][0]["histogram"]], "histogram_edges": EDGES}
    assert axes_of(gamma_over_time(flat))[0].get_ylim()[0] == pytest.approx(0.1)


def test_medians_are_those_recorded_and_not_centres_of_bins() -> None:
    """The bins of a training run's histogram are half decades: the centre of the one from 0.316 to 1 is 0.562."""
    medians = [0.9, 0.8, 0.35]
    records = []
    for epoch, median in enumerate(medians, start=1):
        values = np.array([0.32, median, 0.95])
        histogram = np.histogram(np.log10(values), EDGES)[0].tolist()
        quantiles = [0.32, 0.32, median, median, median, 0.95, 0.95]
        records.append(
            EpochRecord("train", epoch, 0.5, 1e-3, 8, 1.0, channels=3, quantiles=quantiles, histogram=histogram)
        )
    history = TrainingHistory(records)
    picture = gamma_over_time(history)
    assert picture.description == "abs(γ) of 3 channels by epoch, from 1 to 3: the median goes from 0.9 to 0.35."
    assert [f"half ≤ {median:g}," in tip for median, tip in zip(medians, tips(picture), strict=True)] == [True] * 3
    np.testing.assert_allclose(curves(gamma_over_time(history, kind="quantiles"))[0][1], medians)


def test_histograms_do_where_the_gammas_were_not_kept() -> None:
    history = {"epoch": [1, 2, 3], "gamma": [counted(10.0 ** np.linspace(-time, 0, 400)) for time in (1, 2, 4)]}
    picture = gamma_over_time(history, edges=EDGES, threshold=1e-2)
    (axes,) = axes_of(picture)
    assert axes.get_ylim()[0] == pytest.approx(1e-4)
    assert ticks(axes_of(gamma_over_time([[5, 1]], edges=[-25, 0, 1]))[0], "y")[0] == "≤ 1e-25"
    assert sum(cells(picture).values()) == sum(sum(map(bool, counts)) for counts in history["gamma"])
    assert "epoch 3: 400 channels, about 200 below the threshold 0.01" in tips(picture)[-1]
    lines = [y for _, y in curves(gamma_over_time(history, edges=EDGES, kind="quantiles"))]
    np.testing.assert_allclose(np.log10(lines[0]), [-0.5, -1, -2], atol=0.03)
    np.testing.assert_allclose(np.log10(lines[-1]), [-0.1, -0.2, -0.4], atol=0.03)


def test_fewer_channels_after_pruning() -> None:
    assert "4 to 2 channels" in gamma_over_time([*FADING, [1, 0.9]]).description


def test_long_histories_are_thinned_to_what_can_be_seen() -> None:
    picture = gamma_over_time(np.ones((1000, 3)))
    assert len(tips(picture)) <= 102
    assert "epoch 1000" in tips(picture)[-1].replace("1k", "1000")


def test_a_single_time() -> None:
    assert sum(cells(gamma_over_time([[1, 0.1]])).values()) == 2


def test_widths_of_a_csnet_are_those_of_its_blocks() -> None:
    learned = goctconv.create_model("csnet_x1_l")
    picture = channel_widths({"×1": goctconv.create_model("csnet_x1").channels, "×1-L": learned})
    stages = [width for stage in learned.channels["stages"] for width in stage]
    high = [width if isinstance(width, int) else width[0] for width in stages]
    low = [0 if isinstance(width, int) else width[1] for width in stages]
    assert [axes.get_title(loc="left") for axes in axes_of(picture)] == [
        "high resolution: channels",
        "low resolution: channels",
    ]
    assert [panel[1] for panel in heights(picture)] == [high, low]
    assert picture.description.endswith(f"×1 1040, ×1-L {sum(high) + sum(low)}.")


def test_the_report_of_a_csnet_is_shown_by_blocks_too() -> None:
    torch.manual_seed(0)
    model = goctconv.create_model("csnet_x1")
    with torch.no_grad():
        for name in model.dynamic_decay_names():
            model.get_submodule(name).weight.uniform_()
    result = prune_channels(model, torch.zeros(1, 3, 32, 32), threshold=0.5, bn_bias="zero", verify=False)
    networks = channel_widths({"before": model, "after": result.model})
    assert [panel[:2] for panel in heights(channel_widths(result.report))] == heights(networks)


def test_a_report_shows_masked_channels_that_stay() -> None:
    held = {0: "keep= names it", 2: "keep= names it"}
    layers = {"bn1": PrunedLayer(16, 5, 3, held), "$x_{1$": PrunedLayer(64, 30, 30), "bn3": PrunedLayer(8, 0, 0)}
    picture = channel_widths(PruningReport(layers, (1000, 250), (20, 10), (40, 40)))
    assert heights(picture) == [[[16, 64, 8], [13, 34, 8], [2, 0, 0]]]
    assert ticks(axes_of(picture)[0], "x") == ["bn1", "$x_{1$", "bn3"]
    assert picture.description.endswith("before 88, after 55, of which 2 are masked.")
    assert "masked, but stay" in texts(picture)


def test_widths_of_other_networks_are_those_of_their_layers() -> None:
    model = timm.create_model("test_resnet")
    layers = {name: norm.num_features for name, norm in model.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    picture = channel_widths({"mine": model})
    assert heights(picture) == [[list(layers.values())]]
    assert ticks(axes_of(picture)[0], "x") == list(layers)


def test_many_layers_are_spread_over_rows() -> None:
    layers = {f"layer {index}": index for index in range(155)}
    found = heights(channel_widths({"mine": layers, "slim": layers}))
    assert [len(panel[0]) for panel in found] == [39, 39, 38, 39]
    assert [height for panel in found for height in panel[1]] == list(range(155))


def test_layers_that_are_gone_have_no_channels() -> None:
    assert heights(channel_widths({"a": {"x": 3, "y": 4}, "b": {"y": 2}})) == [[[3, 4], [0, 2]]]


def test_deviations_keep_their_layers() -> None:
    picture = output_deviation({"a": [0.5, 0.25], "b": {"2": 0.75, "3": 1}})
    assert ticks(axes_of(picture)[0], "x") == ["1", "2", "3"]
    np.testing.assert_equal(heights(picture), [[[0.5, 0.25, math.nan], [math.nan, 0.75, 1]]])


def test_complexity_is_sorted_and_complete() -> None:
    series = {"a": [(2e5, 0.9, "two"), (1e5, 0.8), (3e5, None)], "b": [(1e6, 0.95)]}
    picture = complexity(series, joined=False)
    assert curves(picture) == [([1e5, 2e5], [0.8, 0.9]), ([1e6], [0.95])]
    (axes,) = axes_of(picture)
    assert [line.get_linestyle() for line in axes.lines] == ["None", "None"]
    assert [text.get_text() for text in axes.texts] == ["two"]
    assert axes.get_xscale() == "log"
    assert [axes.lines[0].get_linestyle() for axes in axes_of(complexity(series))] == ["-"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ["0", "0.25", "0.5", "0.75", "1"]),
        ([0, 80_000], ["0", "20k", "40k", "60k", "80k"]),
        ([0.875, 0.916], ["0.88", "0.89", "0.9", "0.91"]),
    ],
)
def test_labels_of_ticks_are_short(values: list[float], labels: list[str]) -> None:
    (axes,) = axes_of(learning_curves({"a": {"loss": values}}, ["loss"]))
    low, high = axes.get_ylim()
    shown = [label for place, label in zip(axes.get_yticks(), ticks(axes, "y"), strict=True) if low <= place <= high]
    assert shown == labels


def test_decades_are_left_out_where_there_are_many() -> None:
    (axes,) = axes_of(gamma_distribution({"a": [1e-24, 1]}))
    assert ticks(axes, "x") == ["≤ 1e-24", "1e-20", "1e-16", "1e-12", "1e-8", "0.0001", "1"]


def test_close_values_have_ticks_on_a_logarithmic_axis() -> None:
    (axes,) = axes_of(complexity({"a": [(210_985, 0.9), (211_000, 0.91)]}))
    assert len(ticks(axes, "x")) >= 1


@pytest.mark.parametrize("scale", [1e-30, 1, 1e12])
def test_values_of_every_size_are_inside(scale: float) -> None:
    values = [-3 * scale, 0.0, 5 * scale]
    (axes,) = axes_of(learning_curves({"a": {"loss": values}}, ["loss"]))
    low, high = axes.get_ylim()
    assert low <= min(values) < max(values) <= high
    assert 2 <= len(set(ticks(axes, "y"))) <= 8


def test_epochs_are_integers() -> None:
    (axes,) = axes_of(learning_curves({"a": {"loss": [1, 2, 3]}}, ["loss"]))
    assert all(place == round(place) for place in axes.get_xticks())


def test_texts_are_shortened() -> None:
    assert compact(999_999) == "1M"
    assert compact(float("nan")) == "nan"
    assert shorten("short", 10) == "short"
    assert len(shorten("x" * 100, 10)) == 10


Draw = Callable[[], Picture]
REFUSED: list[tuple[Draw, str, str]] = [  # the argument that the error names, and what it says of it
    (lambda: learning_curves({}), "runs", "is empty"),
    (lambda: learning_curves(COLUMNS), "runs", "histories by name: name it"),
    (lambda: learning_curves({"a": 3}), "runs['a']", "must be lists by key"),
    (lambda: learning_curves(ROWS), "runs", "must be histories by name"),
    (lambda: learning_curves({1: COLUMNS}), "runs", "must be histories by name"),
    (lambda: learning_curves({"a": {"loss": []}}), "runs['a']", "is empty"),
    (lambda: learning_curves({"a": []}), "runs['a']", "is empty"),
    (lambda: learning_curves({"a": {**LEARNED, "epochs": []}}), "runs['a']", "is empty"),
    (lambda: learning_curves({"a": {"loss": [1], "mae": [1, 2]}}), "runs['a']", "different lengths"),
    (lambda: learning_curves({"a": COLUMNS}, ["f"]), "keys", "one that a run has: epoch, loss, mae"),
    (lambda: learning_curves({"a": COLUMNS}, ["loss"], x="epochs"), "x", "one of the keys of 'a'"),
    (lambda: learning_curves({"a": COLUMNS}, x=["epoch"]), "x", "one for each of the 2 keys"),
    (lambda: learning_curves({"a": COLUMNS}, "loss"), "keys", "must be a list"),
    (lambda: learning_curves({"a": {"loss": ["x"]}}, ["loss"]), "runs['a']['loss']", "a sequence of numbers"),
    (lambda: learning_curves({"a": {"loss": [math.nan]}}, ["loss"]), "keys", "a finite value in some run"),
    (lambda: learning_curves({"a": {"loss": [0, 1]}}, ["loss"], log=True), "log", "cannot show 0 of 'loss'"),
    (lambda: gamma_distribution({}), "networks", "is empty"),
    (lambda: gamma_distribution({"a": []}), "networks['a']", "at least one γ"),
    (lambda: gamma_distribution({"a": [math.nan]}), "networks['a']", "at least one γ that is a finite number"),
    (lambda: gamma_distribution({"a": nn.ReLU()}), "networks['a']", "a network that has a BatchNorm with γ"),
    (lambda: gamma_distribution({"a": [1]}, threshold=0), "threshold", "a number above 0"),
    (lambda: gamma_over_time([]), "history", "is empty"),
    (lambda: gamma_over_time([{"epoch": 1, "gamma": None}]), "history", "a history that holds γ"),
    (lambda: gamma_over_time(3), "history", "a history, or γ of each time"),
    (lambda: gamma_over_time(FADING, kind="lines"), "kind", "one of 'histogram', 'quantiles'"),
    (lambda: gamma_over_time(FADING, smallest=-1), "smallest", "a number above 0"),
    (lambda: gamma_over_time(COLUMNS), "key", "one of the history's: epoch, loss, mae"),
    (lambda: gamma_over_time([[1, 2]], edges=[0, 1]), "edges", "one more than history[0] has counts"),
    (lambda: gamma_over_time([[0, 0]], edges=[0, 1, 2]), "history[0]", "counts of channels between the edges"),
    (lambda: channel_widths({}), "networks", "is empty"),
    (lambda: channel_widths({"a": {}}), "networks", "networks that have channels"),
    (lambda: channel_widths({"a": {"x": 1.5}}), "networks['a']['x']", "an integer of at least 0"),
    (lambda: channel_widths({"a": {"x": -1}}), "networks['a']['x']", "an integer of at least 0"),
    (lambda: channel_widths({"a": 7}), "networks['a']", "a network, CSNetChannels, or channels by layer"),
    (lambda: channel_widths({"a": {"0.0": 3}, "b": {"x": 3}}), "networks", "CSNets alone"),
    (lambda: output_deviation({"a": {}}), "networks", "a finite number"),
    (lambda: output_deviation({"a": {"x": "y"}}), "networks['a']", "a sequence of numbers"),
    (lambda: complexity({"a": []}), "series", "a point with a cost and a score"),
    (lambda: complexity({"a": [(0, 1)]}), "series['a'][0]", "a cost above 0"),
    (lambda: complexity({"a": [1]}), "series['a'][0]", "(cost, score)"),
]
TYPES = (
    "histories by name",
    "lists by key",
    "a sequence of numbers",
    "a history, or γ",
    "(cost, score)",
    "CSNets alone",
)


@pytest.mark.parametrize(("draw", "argument", "message"), REFUSED, ids=[f"{name}: {text}" for _, name, text in REFUSED])
def test_data_that_cannot_be_drawn_is_refused(draw: Draw, argument: str, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        draw()
    assert caught.value.argument == argument
    assert message in str(caught.value)
    if any(text in message for text in TYPES):
        assert isinstance(caught.value, TypeError)
