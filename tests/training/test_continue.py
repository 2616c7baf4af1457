"""A run that has ended goes on with more epochs, and becomes the run that was asked for them at once, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from goctconv.training import Callback, TrainingError, TrainingResult
from reference.training import EPOCHS, FINETUNE_EPOCHS, OPTIONS, check_equal, learn, loader, network, state_of

LOSS = nn.CrossEntropyLoss()
STEP = {**OPTIONS, "threshold": 1e-3}
CONSTANT = {**STEP, "schedule": "constant"}


def fading_network() -> nn.Module:
    """Return the network with channels that have faded, which any number of epochs leaves so."""
    model = network()
    with torch.no_grad():
        for name in ("1", "5"):
            model.get_submodule(name).weight[:4] *= 1e-5
            model.get_submodule(name).bias[:4] = -1
    return model


class Seen(Callback):
    """Notes from where a run goes on, and which epochs it trains."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.begun: str | None = None

    def on_start(self, run: Any) -> None:
        self.begun = run.checkpoint and run.checkpoint.name

    def on_epoch_start(self, run: Any) -> None:
        self.epochs.append(run.epoch)


class Stop(Exception):  # noqa: N818
    pass


class StopIn(Callback):
    """Raises in a step of an epoch, or after pruning."""

    def __init__(self, epoch: int | None) -> None:
        self.epoch = epoch

    def on_step_end(self, _run: Any, record: Any) -> None:
        if (record.epoch, record.step) == (self.epoch, 2):
            raise Stop

    def on_pruned(self, _run: Any, _plan: Any) -> None:
        if self.epoch is None:
            raise Stop


def run(folder: Path, callbacks: Any = (), **options: Any) -> TrainingResult:
    """Begin a run, or go on with it."""
    given = {"checkpoints": folder, "resume": True, **options}
    return learn(fading_network(), loader(), LOSS, callbacks=callbacks, **given)


def without_time(state: dict[str, Any]) -> dict[str, Any]:
    history, totals = state["history"], state["totals"]
    epochs = [{**epoch, "seconds": 0} for epoch in history["epochs"]]
    return {**state, "history": {**history, "epochs": epochs}, "totals": {**totals, "seconds": 0}}


def check_same(found: TrainingResult, folder: Path, expected: TrainingResult, expected_folder: Path) -> None:
    """Both results, and their last checkpoints with all states in them, have the same bits."""
    check_equal(state_of(found.model), state_of(expected.model))
    assert found.plan.to_dict() == expected.plan.to_dict()
    assert (found.threshold, found.valley) == (expected.threshold, expected.valley)
    last, other = (max(path.iterdir()) for path in (folder, expected_folder))
    assert last.name == other.name
    check_equal(load_file(last / "tensors.safetensors"), load_file(other / "tensors.safetensors"))
    states = []
    for path in (last, other):
        state = without_time(json.loads((path / "state.json").read_text()))
        states.append({**state, "config": {**state["config"], "checkpoints": ""}, "checksum": 0})
    assert states[0] == states[1]


def stepped(optimizer: Any, _: int) -> Any:
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.7)


def one_cycle_then_constant(optimizer: Any, epochs: int) -> Any:
    """Fine-tuning, which has 2 or 5 epochs, begins with the options that a schedule of the first phase has left."""
    if epochs == EPOCHS:
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


ADAM = {"optimizer": torch.optim.Adam}
MORE, LONGER_FINETUNING = {"epochs": EPOCHS + 3}, {"finetune_epochs": FINETUNE_EPOCHS + 3}


@pytest.mark.parametrize(
    ("options", "more", "begun"),
    [
        pytest.param(CONSTANT, MORE, "00003", id="training"),
        pytest.param(CONSTANT, LONGER_FINETUNING, "00005", id="fine-tuning"),
        pytest.param(CONSTANT, {**MORE, **LONGER_FINETUNING}, "00003", id="both"),
        pytest.param(STEP, MORE, "00002", id="milestones"),
        pytest.param(STEP, LONGER_FINETUNING, "00004", id="milestones of fine-tuning"),
        pytest.param({**STEP, "scheduler": stepped}, MORE, "00003", id="scheduler"),
        pytest.param({**STEP, "scheduler": stepped}, LONGER_FINETUNING, "00005", id="scheduler of fine-tuning"),
        pytest.param({**STEP, "scheduler": one_cycle_then_constant}, LONGER_FINETUNING, "00005", id="two schedulers"),
        pytest.param({**STEP, "schedule": "cosine"}, LONGER_FINETUNING, "00004", id="cosine of fine-tuning"),
        pytest.param({**CONSTANT, **ADAM}, MORE, "00003", id="Adam"),
        pytest.param({**CONSTANT, **ADAM}, LONGER_FINETUNING, "00005", id="Adam, fine-tuning"),
        pytest.param({**CONSTANT, "finetune_optimizer": "fresh"}, LONGER_FINETUNING, "00005", id="fresh optimizer"),
        pytest.param({**CONSTANT, "finetune_epochs": 0}, MORE, "00003", id="no fine-tuning"),
        pytest.param({**CONSTANT, "finetune_epochs": 0}, LONGER_FINETUNING, "00003-0000000", id="fine-tuning at last"),
        pytest.param({**CONSTANT, "finetune_epochs": 0, "threshold": None}, MORE, "00003", id="no pruning"),
        pytest.param(
            {**CONSTANT, "finetune_epochs": 0, "threshold": None, "weight_decay": 0.0}, MORE, "00003", id="plain"
        ),
        pytest.param({**CONSTANT, "threshold": "valley"}, MORE, "00003", id="valley"),
        pytest.param({**CONSTANT, "amp": "bf16", "accumulate": 2}, MORE, "00003", id="bf16"),
        pytest.param({**STEP, "schedule": "cooldown", "cooldown": 1}, MORE, "00002", id="before it cooled down"),
    ],
)
def test_equals_the_run_that_was_asked_for_them_at_once(
    options: dict[str, Any], more: dict[str, Any], begun: str, tmp_path: Path
) -> None:
    run(tmp_path / "run", **options)
    seen = Seen()
    found = run(tmp_path / "run", [seen], **{**options, **more})
    assert seen.begun == begun
    expected = run(tmp_path / "whole", **{**options, **more})
    check_same(found, tmp_path / "run", expected, tmp_path / "whole")
    assert found.threshold is None or found.report.removed > 0
    assert seen.epochs == list(range(int(begun[:5]) + 1, len(expected.history.epochs) + 1))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_what_comes_after_more_training_may_change(tmp_path: Path) -> None:
    run(tmp_path, **CONSTANT)
    changed = {**CONSTANT, **MORE, "finetune_epochs": 1, "threshold": 0.01}
    found, expected = run(tmp_path, **changed), learn(fading_network(), loader(), LOSS, **changed)
    check_equal(state_of(found.model), state_of(expected.model))


def test_again_and_again(tmp_path: Path) -> None:
    for epochs, finetune_epochs in ((1, 0), (2, 0), (2, 1), (3, 1)):
        found = run(tmp_path / "run", **{**CONSTANT, "epochs": epochs, "finetune_epochs": finetune_epochs})
    expected = run(tmp_path / "whole", **{**CONSTANT, "epochs": 3, "finetune_epochs": 1})
    check_same(found, tmp_path / "run", expected, tmp_path / "whole")


@pytest.mark.parametrize("epoch", [3, 5, None, 7])
def test_interrupted_while_it_goes_on(epoch: int | None, tmp_path: Path) -> None:
    """Checkpoints of the shorter run that still lie there are not mistaken for those of the longer one."""
    run(tmp_path / "run", **STEP)
    longer = {**STEP, **MORE}
    with pytest.raises(Stop):
        run(tmp_path / "run", [StopIn(epoch)], **longer)
    found = run(tmp_path / "run", **longer)
    expected = run(tmp_path / "whole", **longer)
    check_same(found, tmp_path / "run", expected, tmp_path / "whole")


def test_the_end_of_an_interrupted_run_is_not_needed(tmp_path: Path) -> None:
    """Training has ended, fine-tuning has not."""
    with pytest.raises(Stop):
        run(tmp_path / "run", [StopIn(5)], **CONSTANT)
    found = run(tmp_path / "run", **{**CONSTANT, **MORE})
    check_same(found, tmp_path / "run", run(tmp_path / "whole", **{**CONSTANT, **MORE}), tmp_path / "whole")


def test_kept_checkpoints(tmp_path: Path) -> None:
    """Besides the last two: the end of training, and the first milestone, not the beginning of a cosine."""
    for schedule, names in {
        "step": ["00004", "00006", "00007", "00008"],
        "constant": ["00006", "00007", "00008"],
        "cosine": ["00006", "00007", "00008"],
    }.items():
        options = {**STEP, "schedule": schedule, "epochs": 6}
        run(tmp_path / schedule, **options)
        assert sorted(path.name for path in (tmp_path / schedule).iterdir()) == names


@pytest.mark.parametrize("options", [{"schedule": "cosine"}, {"schedule": "warmup-cosine"}])
def test_a_schedule_that_depends_on_the_number_of_epochs(options: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path, **{**STEP, **options})
    before = sorted(tmp_path.iterdir())
    message = r"00005 cannot go on as a run of 6 epochs and 2 of fine-tuning: .*schedule='constant', a run can always"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path, **{**STEP, **options, **MORE})
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("name", "begun"), [("00005", "00003"), ("00003", "00003")])
def test_a_named_checkpoint_or_an_earlier_one(name: str, begun: str, tmp_path: Path) -> None:
    folder, seen = tmp_path / "run", Seen()
    run(folder, **CONSTANT)
    found = run(folder, [seen], resume=folder / name, **{**CONSTANT, **MORE})
    assert seen.begun == begun
    check_same(found, folder, run(tmp_path / "whole", **{**CONSTANT, **MORE}), tmp_path / "whole")


def test_a_named_checkpoint_in_the_midst_of_training(tmp_path: Path) -> None:
    """It is of a run that has not ended."""
    run(tmp_path, **STEP)
    with pytest.raises(TrainingError, match=r"00002 was made with other options: epochs=3 there, 6 here. Pass"):
        run(tmp_path, resume=tmp_path / "00002", **{**STEP, **MORE})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 2}, r"epochs=3 there, 2 here. What has ended can go on with more epochs, not with fewer"),
        ({"finetune_epochs": 1}, r"finetune_epochs=2 there, 1 here. What has ended can go on with more epochs, not"),
        (
            {"epochs": 6, "seed": 1},
            r"00005 was made with other options: seed=0 there, 1 here; epochs=3 there, 6 here. Pass",
        ),
        (
            {"finetune_epochs": 3, "threshold": 0.01},
            r"options: finetune_epochs=2 there, 3 here; threshold=0.001 there, 0.01 here. Pass",
        ),
        (
            {"epochs": 6, "threshold": None, "finetune_epochs": 0},
            r"options: epochs=3 there, 6 here; .*threshold=0.001 there, None here",
        ),
    ],
)
def test_what_cannot_go_on(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    run(tmp_path, **CONSTANT)
    with pytest.raises(TrainingError, match=message):
        run(tmp_path, **{**CONSTANT, **changed})


def test_without_the_checkpoint_before_pruning(tmp_path: Path) -> None:
    """As of folders that an earlier version has written."""
    run(tmp_path, **CONSTANT)
    (tmp_path / "00003").rename(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match="or they end after pruning, and no checkpoint is kept of before"):
        run(tmp_path, **{**CONSTANT, **MORE})
