"""A run that was interrupted goes on bit for bit as if it had not been."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from goctconv.training import Callback, TrainingError, TrainingHistory
from reference.training import BATCH, EPOCHS, OPTIONS, STEPS, Pictures, check_equal, learn, loader, network, state_of

SCRIPT = Path(__file__).with_name("runs.py")
LOSS = nn.CrossEntropyLoss()
KEPT = ["00002", "00003", "00004", "00005"]  # the first milestone, the end of training, the last two


@pytest.fixture(scope="module")
def whole() -> tuple[dict[str, Tensor], TrainingHistory]:
    """The final weights and the history of a run without interruptions or checkpoints."""
    result = learn(network(), loader(), LOSS, **OPTIONS)
    return state_of(result.model), result.history


def without_time(history: TrainingHistory) -> dict[str, Any]:
    data = history.to_dict()
    return {**data, "epochs": [{**epoch, "seconds": 0} for epoch in data["epochs"]]}


def killed_runs(folder: Path, seed: int, number: signal.Signals) -> list[list[str]]:
    """Kill runs until one ends; return what was in the folder of checkpoints each time."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(seed), str(int(number))],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    error = folder / "error.txt"
    assert done.returncode == 0, error.read_text() if error.exists() else done.stderr
    left: list[list[str]] = json.loads((folder / "left.json").read_text())
    return left


def check_whole(folder: Path, whole: tuple[dict[str, Tensor], TrainingHistory]) -> None:
    check_equal(load_file(folder / "final.safetensors"), whole[0])
    history = TrainingHistory.from_dict(json.loads((folder / "history.json").read_text()))
    assert without_time(history) == without_time(whole[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_killed_at_random_moments(seed: int, tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]) -> None:
    left = killed_runs(tmp_path, seed, signal.SIGKILL)
    found = {int(name[:5]) for names in left[:-1] for name in names if name[0].isdigit()}
    assert len(left) > 1  # children that died
    assert seed != 1 or min(found) < EPOCHS < max(found)  # in both phases, with this seed
    check_whole(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_terminated_at_random_moments(
    seed: int, tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]
) -> None:
    left = killed_runs(tmp_path, seed, signal.SIGTERM)
    assert [name for names in left for name in names if "-" in name]  # checkpoints in the middle of an epoch
    check_whole(tmp_path, whole)


def test_checkpoints_within_an_epoch(tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]) -> None:
    begun: list[str] = []

    class Kill(Callback):
        def on_start(self, run: Any) -> None:
            begun.append(run.checkpoint.name if run.checkpoint else "")

        def on_step_end(self, _run: Any, record: Any) -> None:
            if (record.epoch, record.step) == (2, 4) and len(begun) == 1:
                raise KeyboardInterrupt

    run = {"train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path, "callbacks": [Kill()], **OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        learn(network(), checkpoint_steps=3, **run)
    result = learn(network(), resume=True, **run)
    assert begun == ["", "00001-0000003"]
    check_equal(state_of(result.model), whole[0])


@pytest.mark.parametrize("where", [(1, 2), (3, 4), (5, 1)])
def test_terminated_in_an_epoch(
    where: tuple[int, int], tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]
) -> None:
    """The step that runs is done, a checkpoint is written, and the process ends with the code of SIGTERM."""

    class Terminate(Callback):
        def on_step_end(self, _run: Any, record: Any) -> None:
            if (record.epoch, record.step) == where:
                os.kill(os.getpid(), signal.SIGTERM)

    run = {"train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path, **OPTIONS}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        learn(network(), callbacks=[Terminate()], **run)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert any("-" in path.name for path in tmp_path.iterdir()) or where == (3, 4)
    result = learn(network(), resume=True, **run)
    check_equal(state_of(result.model), whole[0])
    assert without_time(result.history) == without_time(whole[1])


class Stop(Exception):  # noqa: N818
    pass


class StopAfter(Callback):
    """Raises after so many epochs, before their checkpoint; or after pruning."""

    def __init__(self, epochs: int = 0, *, pruning: bool = False) -> None:
        self.epochs, self.pruning = epochs, pruning

    def on_epoch_end(self, _run: Any, record: Any) -> None:
        if record.epoch == self.epochs:
            raise Stop

    def on_pruned(self, _run: Any, _plan: Any) -> None:
        if self.pruning:
            raise Stop


def resumed(folder: Path, stop: StopAfter, **options: Any) -> dict[str, Tensor]:
    """Stop a run, and go on with it."""
    options = {**OPTIONS, "train_loader": loader(), "loss_fn": LOSS, "checkpoints": folder, **options}
    with pytest.raises(Stop):
        learn(network(), callbacks=[stop], **options)
    return state_of(learn(network(), resume=True, **options).model)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"finetune_optimizer": "fresh"}, id="fresh optimizer"),
        pytest.param({"schedule": "constant", "threshold": 0.394}, id="no scheduler"),
        pytest.param(
            {"scheduler": lambda o, n: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, n), "threshold": 0.075},
            id="one cycle",
        ),
        pytest.param({"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR, "threshold": 0.01}, id="cosine"),
        pytest.param({"amp": "bf16", "accumulate": 2, "clip_grad": 0.5, "threshold": 0.512}, id="bf16"),
        pytest.param({"channels_last": True}, id="channels last"),
        pytest.param({"optimizer": torch.optim.Adam, "threshold": 0.991608}, id="Adam"),
        pytest.param({"threshold": "valley", "finetune_epochs": 2}, id="valley"),
    ],
)
def test_across_the_prune_step(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if options.get("threshold") == "valley":
        make_a_gap(monkeypatch)
    run = {**OPTIONS, **options}
    expected = state_of(learn(network(), loader(), LOSS, **run).model)
    for index, stop in enumerate([StopAfter(EPOCHS), StopAfter(pruning=True), StopAfter(EPOCHS + 2)]):
        check_equal(resumed(tmp_path / str(index), stop, **options), expected)


def make_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with some channels almost dead, so that there is a valley after three epochs."""
    begun = network

    def with_gap() -> nn.Module:
        model = begun()
        with torch.no_grad():
            for name in ("1", "5"):
                model.get_submodule(name).weight[:4] *= 1e-5
                model.get_submodule(name).bias[:4] = -1
        return model

    monkeypatch.setitem(globals(), "network", with_gap)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]) -> None:
    first = learn(network(), loader(), LOSS, checkpoints=tmp_path, keep_unpruned=True, **OPTIONS)
    check_equal(state_of(first.model), whole[0])
    again = learn(
        network(), loader(), LOSS, checkpoints=tmp_path, resume=True, keep_unpruned=True,
        callbacks=[StopAfter(EPOCHS + 2)], **OPTIONS,
    )  # fmt: skip
    check_equal(state_of(again.model), whole[0])
    assert first.unpruned is not None
    assert again.unpruned is not None
    check_equal(again.unpruned, first.unpruned)
    assert (again.report, again.threshold) == (first.report, first.threshold)
    assert sorted(path.name for path in tmp_path.iterdir()) == KEPT


def test_an_earlier_checkpoint_can_be_named(tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]) -> None:
    learn(network(), loader(), LOSS, checkpoints=tmp_path, **OPTIONS)
    result = learn(network(), loader(), LOSS, checkpoints=tmp_path, resume=tmp_path / "00004", **OPTIONS)
    check_equal(state_of(result.model), whole[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == KEPT


def test_checkpoints_hold_data_only(tmp_path: Path) -> None:
    learn(network(), loader(), LOSS, checkpoints=tmp_path, **OPTIONS)
    files = sorted(path.name for path in (tmp_path / "00005").iterdir())
    assert files == ["state.json", "tensors.safetensors"]
    assert json.loads((tmp_path / "00005" / "state.json").read_text())["format"] == "goctconv-training"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 4}, r"epochs=3 there, 4 here"),
        ({"seed": 1, "accumulate": 2}, r"seed=0 there, 1 here; accumulate=1 there, 2 here"),
        ({"optimizer": torch.optim.Adam}, r"optimizer=SGD .* there, Adam .* here"),
        ({"schedule": "constant"}, r"schedule='step' there, 'constant' here"),
        ({"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR}, r"scheduler=None there, CosineAnnealingLR here"),
        ({"train_loader": loader(drop_last=True)}, r"batches=4 there, 3 here"),
        (
            {"model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))},
            r"another model: 0.weight=\(13, 3, 3, 3\)",
        ),
    ],
)
def test_another_run_is_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    run = {**OPTIONS, "model": network(), "train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path}
    with pytest.raises(Stop):
        learn(**run, callbacks=[StopAfter(2)])
    with pytest.raises(TrainingError, match=message):
        learn(**{**run, "model": network(), "resume": True, **changed})


def test_what_comes_later_may_change_before_it_does(tmp_path: Path) -> None:
    run = {"train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path, **OPTIONS}
    with pytest.raises(Stop):
        learn(network(), callbacks=[StopAfter(pruning=True)], **run)
    changed = {**run, "threshold": 0.065, "finetune_epochs": 1}
    result = learn(network(), resume=True, **changed)
    assert result.threshold == 0.065
    with pytest.raises(TrainingError, match=r"finetune_epochs=1 there, 2 here; threshold=0.065 there, 0.06 here"):
        learn(network(), resume=True, **run)


def test_a_folder_with_checkpoints_is_not_written_over(tmp_path: Path) -> None:
    run = {"train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path, **OPTIONS}
    learn(network(), **run)
    with pytest.raises(TrainingError, match=r"earlier run, the last of them 00005: pass resume=True"):
        learn(network(), **run)
    with pytest.raises(TrainingError, match="is no checkpoint, nor a folder"):
        learn(network(), **run, resume=tmp_path / "none")
    with pytest.raises(ValueError, match="resume=True needs the folder to go on from: pass checkpoints"):
        learn(network(), **{**run, "checkpoints": None}, resume=True)


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_a_damaged_checkpoint_is_named(file: str, tmp_path: Path) -> None:
    run = {"train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path, **OPTIONS}
    learn(network(), **run)
    path = tmp_path / "00005" / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"00005 is no checkpoint of learn_channels, or a damaged one"):
        learn(network(), **run, resume=True)
    assert len(learn(network(), **run, resume=tmp_path / "00004").history.epochs) == EPOCHS + 2


def test_a_full_disk(tmp_path: Path, whole: tuple[dict[str, Tensor], TrainingHistory]) -> None:
    """The files of this process may not grow beyond a limit: it fails as on a full disk, in the midst of a file."""
    resource = pytest.importorskip("resource")
    run = {"train_loader": loader(), "loss_fn": LOSS, "checkpoints": tmp_path, **OPTIONS}

    class Fill(Callback):
        def on_epoch_end(self, _run: Any, record: Any) -> None:
            if record.epoch == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(TrainingError, match=r"00003 cannot be written: .*too large; the last good one is .*00002"):
            learn(network(), callbacks=[Fill()], **run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001", "00002"]
    check_equal(state_of(learn(network(), resume=True, **run).model), whole[0])


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """It stops the run before the weights are spoilt, and names the batch and where to go on."""

    class Named(dict[str, Any]):
        names = ("cat.jpg", "dog.jpg")

    poisoned = False

    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        loss = LOSS(model(batch["image"]), batch["label"])
        return loss * float("nan") if poisoned else loss

    class Poison(Callback):
        def on_step_end(self, _run: Any, record: Any) -> None:
            nonlocal poisoned
            poisoned = (record.epoch, record.step) == (4, 1)

    data = Pictures()
    batches = [Named(image=data.images[:BATCH], label=data.labels[:BATCH]) for _ in range(STEPS)]
    run = {"train_loader": batches, "step": step, "checkpoints": tmp_path, **OPTIONS}
    expected = state_of(learn(network(), batches, step=step, **OPTIONS).model)
    message = (
        r"phase finetune, epoch 4 of 5, step 2: the loss is nan for the batch cat.jpg, dog.jpg; the last good .*00003"
    )
    with pytest.raises(TrainingError, match=message) as failed:
        learn(network(), callbacks=[Poison()], **run)
    assert not failed.value.can_resume
    assert failed.value.checkpoint == tmp_path / "00003"
    poisoned = False
    check_equal(state_of(learn(network(), resume=True, **run).model), expected)


def test_weights_that_are_spoilt_get_into_no_checkpoint(tmp_path: Path) -> None:
    """The loss of the last step of an epoch is finite, its gradient is not."""
    spoilt = False

    def step(model: nn.Module, batch: Any) -> Tensor:
        outputs = model(batch[0])
        return LOSS(outputs, batch[1]) + ((0 * outputs).sqrt().sum() if spoilt else 0)

    class Spoil(Callback):
        def on_step_end(self, _run: Any, record: Any) -> None:
            nonlocal spoilt
            spoilt = (record.epoch, record.step) == (2, STEPS - 1)

    message = r"phase train, epoch 2 of 5: 0.weight is not finite, though the loss was; the last good .*00001"
    with pytest.raises(TrainingError, match=message) as failed:
        learn(network(), loader(), step=step, callbacks=[Spoil()], checkpoints=tmp_path, **OPTIONS)
    assert not failed.value.can_resume
    assert [path.name for path in tmp_path.iterdir()] == ["00001"]


def test_fine_tuning_goes_on_with_the_scale_of_training(tmp_path: Path) -> None:
    """Else its first steps would overflow again, and be skipped."""

    def step(model: nn.Module, batch: Any) -> Tensor:
        return 1000 * LOSS(model(batch[0]), batch[1])

    slow = functools.partial(torch.optim.SGD, lr=5e-5)
    options = {"amp": "fp16", "threshold": 1.0, "epochs": 3, "finetune_epochs": 1, "optimizer": slow}
    learn(network(), loader(), step=step, checkpoints=tmp_path, **options)
    before, after = (
        dict(json.loads((tmp_path / name / "state.json").read_text())["scaler"]["dict"])["scale"]
        for name in ("00003", "00004")
    )
    assert after <= before < 2.0**16


def test_state_that_is_no_data_is_refused(tmp_path: Path) -> None:
    def scheduler(optimizer: Any, _: int) -> Any:
        made = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        made.secret = object()  # type: ignore[attr-defined]
        return made

    with pytest.raises(TypeError, match=r"scheduler.secret holds a builtins.object, and checkpoints hold data only"):
        learn(network(), loader(), LOSS, checkpoints=tmp_path, **{**OPTIONS, "scheduler": scheduler})
