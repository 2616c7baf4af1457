"""Histories, their files, and the callbacks that show them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from goctconv import learn_channels
from goctconv.training import (
    Callback,
    CSVLog,
    JSONLog,
    ProgressBar,
    TensorBoard,
    TrainingConfig,
    TrainingHistory,
    TrainingResult,
    TrainingRun,
)
from goctconv.training._checkpoint_files import decode, encode
from goctconv.training._history import EpochRecord
from goctconv.training._threshold import HISTOGRAM_EDGES, histogram
from reference.training import EPOCHS, FINETUNE_EPOCHS, IMAGES, OPTIONS, STEPS, learn, loader, network

LOSS = nn.CrossEntropyLoss()
TOTAL = EPOCHS + FINETUNE_EPOCHS


def run(*callbacks: Callback, **options: Any) -> TrainingResult:
    options = {**OPTIONS, "validate": lambda _: {"mae": 0.25}, **options}
    return learn(network(), loader(), LOSS, callbacks=callbacks, **options)


def test_what_is_recorded() -> None:
    result = run()
    history = result.history
    assert [(epoch.phase, epoch.epoch, epoch.images) for epoch in history.epochs] == [
        *(("train", epoch, IMAGES) for epoch in range(1, EPOCHS + 1)),
        *(("finetune", epoch, IMAGES) for epoch in range(EPOCHS + 1, TOTAL + 1)),
    ]
    assert [(step.epoch, step.step) for step in history.steps] == [
        (epoch, step) for epoch in range(1, TOTAL + 1) for step in range(1, STEPS + 1)
    ]
    for epoch in history.epochs:
        steps = [step for step in history.steps if step.epoch == epoch.epoch]
        images = [4, 4, 4, 1]
        mean = sum(step.loss * count for step, count in zip(steps, images, strict=True)) / IMAGES
        assert epoch.loss == pytest.approx(mean, rel=1e-12)
        assert sum(epoch.histogram) == epoch.channels
        assert epoch.images_per_second == pytest.approx(IMAGES / epoch.seconds)
        assert epoch.quantiles == sorted(epoch.quantiles)
    assert history.epochs[EPOCHS - 1].below_threshold == result.report.masked
    assert [epoch.channels for epoch in history.epochs] == [24] * EPOCHS + [
        24 - result.report.removed
    ] * FINETUNE_EPOCHS
    assert history.series("mae", "finetune") == [0.25] * FINETUNE_EPOCHS
    with pytest.raises(KeyError, match="no epoch has 'f1': there are phase, epoch, loss"):
        history.series("f1")


def test_histories_are_plain_data() -> None:
    history = run().history
    data = json.loads(json.dumps(history.to_dict()))
    assert TrainingHistory.from_dict(data) == history
    assert len(data["histogram_edges"]) == len(data["epochs"][0]["histogram"]) + 1
    with pytest.raises(ValueError, match="this is no history of a run"):
        TrainingHistory.from_dict({"epochs": []})


def test_histogram_counts_half_decades() -> None:
    counts = histogram(torch.tensor([0.0, 1e-30, 2e-3, 5e-3, 1.5, 1e5], dtype=torch.float64))
    found = {HISTOGRAM_EDGES[index]: count for index, count in enumerate(counts) if count}
    assert found == {-25.0: 2, -3.0: 1, -2.5: 1, 0.0: 1, 1.5: 1}


@pytest.mark.parametrize("resumed", [False, True])
def test_files(resumed: bool, tmp_path: Path) -> None:
    logs = [CSVLog(tmp_path / "logs" / "epochs.csv"), JSONLog(tmp_path / "logs" / "log.jsonl")]
    if resumed:

        class Stop(Callback):
            def on_step_end(self, _run: Any, record: Any) -> None:
                if (record.epoch, record.step) == (4, 3):
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(*logs, Stop(), checkpoints=tmp_path / "checkpoints")
    result = run(*logs, checkpoints=tmp_path / "checkpoints", resume=resumed)
    with (tmp_path / "logs" / "epochs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == list(range(1, TOTAL + 1))
    assert float(rows[-1]["loss"]) == result.history.epochs[-1].loss
    assert {"phase", "below_threshold", "threshold", "images_per_second", "gamma_50", "validation_mae"} <= set(rows[0])
    lines = [json.loads(line) for line in (tmp_path / "logs" / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == [*["step"] * STEPS, "epoch"] * TOTAL
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["epochs.csv", "log.jsonl"]


def test_plain_lines() -> None:
    stream = io.StringIO()
    run(ProgressBar(stream))
    lines = stream.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "train 1/5", "train 2/5", "train 3/5", "pruned", "finetune 4/5", "finetune 5/5",
    ]  # fmt: skip
    for part in ("loss 0.", "mae 0.2500", "γ below 0.06", "images/s", "lr 0.05", "left"):
        assert part in lines[0]


def test_a_run_that_kills_the_network_says_so() -> None:
    stream, config = io.StringIO(), TrainingConfig(epochs=1, finetune_epochs=1, threshold=1e9)
    with pytest.warns(UserWarning, match="masking leaves the outputs") as caught:
        result = learn_channels(network(), loader(), LOSS, config, callbacks=[ProgressBar(stream)])
    assert [warning.filename for warning in caught] == [__file__]
    (line,) = (line for line in stream.getvalue().splitlines() if line.startswith("pruned: "))
    assert "; masking leaves the outputs constant" in line
    assert "warning='masking leaves the outputs constant" in repr(result)
    assert "warning" not in repr(run(threshold=0))


def test_the_time_left_counts_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 130.0])
    monkeypatch.setattr("goctconv.training._callbacks.time.monotonic", lambda: next(now))
    stream = io.StringIO()
    bar = ProgressBar(stream)
    state = TrainingRun(nn.Identity(), epochs=11, phase="train", epoch=1)
    bar.on_epoch_start(state)
    bar.on_epoch_end(state, EpochRecord("train", 1, 0.5, 1e-4, images=160, seconds=8.0))
    assert stream.getvalue().rstrip().endswith("5:00 left")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    stream = Terminal()
    run(ProgressBar(stream), checkpoints=tmp_path)
    assert "train 1/5" in stream.getvalue()
    assert f"/{STEPS} [" in stream.getvalue()
    again = Terminal()
    run(ProgressBar(again), checkpoints=tmp_path, resume=True)
    assert again.getvalue() == f"going on from {tmp_path / '00005'}: epoch 5 of 5 is done\n"


def test_without_tqdm_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = Terminal()
    run(ProgressBar(stream))
    assert len(stream.getvalue().splitlines()) == TOTAL + 1


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    result = run(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    assert {"loss", "channels below the threshold", "validation/mae"} <= set(events.Tags()["scalars"])
    assert [one.value for one in events.Scalars("loss")] == pytest.approx(result.history.series("loss"))
    assert len(events.Histograms("log10 abs(γ)")) == TOTAL


def test_without_tensorboard_an_error_names_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'goctconv\[train\]'"):
        TensorBoard(tmp_path)


def test_callbacks_hear_everything_in_order() -> None:
    class Listen(Callback):
        def __getattribute__(self, name: str) -> Any:
            return (lambda run, *_: heard.append((name, run.phase, run.epoch))) if name.startswith("on_") else None

    heard: list[tuple[str, str, int]] = []
    run(Listen(), epochs=1, finetune_epochs=1, threshold=0.9)
    names = [name for name, _, _ in heard]
    epoch = ["on_epoch_start", *["on_step_end"] * STEPS, "on_epoch_end"]
    assert names == ["on_start", *epoch, "on_pruned", *epoch, "on_end"]
    assert heard[-1] == ("on_end", "finetune", 2)


def test_nested_values_survive_encoding() -> None:
    from collections import Counter  # noqa: PLC0415

    value = {
        "state": {0: {"step": torch.tensor(3.0), "flags": (True, None, "a")}},
        "milestones": Counter({2: 1}),
        "limits": [float("inf"), -0.1, {"x": ()}],
        "strided": torch.arange(6.0).view(2, 3).T,
    }
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(encode(value, tensors, "optimizer")))
    found = decode(plain, tensors)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert str(found) == str(value)
    assert isinstance(found["milestones"], Counter)


def test_the_representation_is_short() -> None:
    history = TrainingHistory([EpochRecord("train", 1, 0.7, 1e-4, 160, 8.0)] * 300)
    assert repr(history) == "TrainingHistory(300 epochs of 0 steps, last train with loss 0.7)"
