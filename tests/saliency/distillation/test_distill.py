"""Distillation: what is learned, who is called how often, resumption bit for bit, two processes as one.

Run as a script, this file is one of the two processes.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import goctconv
from goctconv.saliency import DataSetError, DistillationConfig, distill, find_images, find_pairs, predict
from goctconv.saliency.data import SkippedPairWarning, find_taught
from goctconv.saliency.data._read import read_pixels
from goctconv.saliency.distillation import DistillationStep
from goctconv.saliency.distillation._teacher import Teacher, with_maps, write_map
from goctconv.saliency.inference import all_outputs
from goctconv.saliency.learning import SaliencyStep
from goctconv.saliency.losses import dice_loss
from goctconv.saliency.losses._basic import boundary_dice_loss
from goctconv.training import Callback, TrainingError
from reference.distillation import EPOCHS, OPTIONS, Student, Trainer, batches, photographs, seeded
from reference.processes import RANKS, connected, run_ranks
from reference.training import check_equal, learn, split, state_of
from saliency.data_sets import make_data_set, truncate

STEPS = 2
SMALL: dict[str, Any] = {"sizes": 32, "batch_size": 2, "workers": 0, **OPTIONS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("data") / "photographs")


def distilled(student: Any, teacher: Any, images: Any, **options: Any) -> Any:
    """Call `distill` with options of all kinds."""
    passed, config = split(options, distill)
    return distill(student, teacher, images, config=DistillationConfig(**config), **passed)


def learned(folder: Path, teacher: nn.Module | None = None, **options: Any) -> Any:
    return distilled(seeded(Student), teacher or seeded(Trainer, 8), folder, **{**SMALL, **options})


def test_a_student_comes_near_its_teacher(folder: Path) -> None:
    teacher, student = seeded(Trainer, 8), seeded(Student)
    before = state_of(teacher)
    options = {**SMALL, "epochs": 30, "finetune_epochs": 0, "weight_decay": 0.0, "threshold": None, "loss": "bce"}
    options["optimizer"] = functools.partial(torch.optim.Adam, lr=0.03)
    result = distilled(student, teacher.train(), folder, held_out=folder, **options)
    agreement = result.history.epochs
    assert agreement[-1].validation["teacher_mae"] < 0.5 * agreement[0].validation["teacher_mae"]
    assert result.report.removed == 0
    assert teacher.training
    assert teacher.drop.training
    assert teacher.seen == {(False, False, torch.float32)}
    check_equal(state_of(teacher), before)


def test_distilled_pruned_and_distilled_again(folder: Path) -> None:
    teacher = seeded(Trainer, 8)
    result = learned(folder, teacher)
    assert [epoch.phase for epoch in result.history.epochs] == ["train", "train", "finetune"]
    assert 0 < result.report.removed < 12
    assert teacher.images == 3 * 6
    assert len(result.model.forward_multi(torch.rand(1, 3, 8, 8))) == 2


def test_kept_maps_cost_the_teacher_once(folder: Path, tmp_path: Path) -> None:
    teacher = seeded(Trainer, 8)
    kept = learned(folder, teacher, maps=tmp_path, held_out=folder)
    assert teacher.images == 6
    again = learned(folder, teacher, maps=tmp_path, held_out=folder)
    assert teacher.images == 6
    check_equal(state_of(again.model), state_of(kept.model))
    learned(folder, seeded(Trainer, 9), maps=tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 12
    data = with_maps(find_images(folder), Teacher(teacher), tmp_path, size=32, batch_size=4)
    assert teacher.images == 6
    for pair, expected in zip(data, predict(teacher, [pair.image for pair in data], size=32), strict=True):
        found = np.asarray(Image.open(pair.mask)) / 255
        assert np.abs(found - expected).max() < 0.5 / 255 + 1e-6


def test_a_folder_of_maps_as_the_teacher(folder: Path, tmp_path: Path) -> None:
    """Maps have the names of photographs, and any size; the nearest to what the teacher makes learns alike."""
    names = [path.stem for path in sorted(folder.iterdir())]
    for index, name in enumerate(names[:5]):
        levels = np.full((20 + index, 30), 1 if index == 3 else 40 * index, np.uint8)
        (tmp_path / "maps/below").mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(tmp_path / "maps" / ("below" if index % 2 else "") / f"{name}.png")
    with pytest.warns(SkippedPairWarning, match=rf"1 of 6 photographs have no map .*{names[5]}\.png$"):
        result = distilled(seeded(Student), tmp_path / "maps", folder, held_out=folder, **{**SMALL, "crop": 0})
    assert result.history.epochs[-1].images == 4
    assert result.history.epochs[-1].validation["teacher_mae"] < 0.5
    found = {Path(pair.image).stem: read_pixels(pair).mask for pair in find_taught(folder, tmp_path / "maps")}
    assert [int(found[name].max()) for name in names[:5]] == [0, 40, 80, 1, 160]
    with Image.open(folder / f"{names[0]}.png") as photograph:
        assert found[names[0]].shape == photograph.size[::-1]


def test_folders_of_maps_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/0.png", "c/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    with pytest.raises(DataSetError, match=r"no map in .*a \(like x\.png\) has the name of a photograph, like 0\.png"):
        find_taught(folder, tmp_path / "a")
    with pytest.raises(DataSetError, match=r"are both maps of .*0\.png: put the maps into folders"):
        find_taught(folder, tmp_path)
    with pytest.raises(DataSetError, match="no such folder"):
        distilled(seeded(Student), tmp_path / "none", folder, **SMALL)
    with pytest.raises(ValueError, match=r"teacher_size=64 is for a teacher that makes maps, and teacher='.*b' is"):
        distilled(seeded(Student), str(tmp_path / "b"), folder, **SMALL, teacher_size=64)


@pytest.mark.parametrize("keeps", [False, True])
def test_photographs_of_their_own_size(keeps: bool, tmp_path: Path) -> None:
    for index, sides in enumerate([(40, 33), (52, 36), (40, 33)]):
        Image.new("RGB", sides, (90 * index, 80, 60)).save(tmp_path / f"{index}.png")
    teacher, maps = seeded(Trainer, 8), tmp_path / "maps"
    files = sorted(tmp_path.glob("*.png"))
    result = learned(files, teacher, sizes="own", batch_size=1, held_out=files, maps=maps if keeps else None)
    assert result.history.epochs[-1].images == 3
    assert len(teacher.seen) == 1
    pairs = with_maps(find_images(files), Teacher(teacher), maps, size="own", batch_size=4)
    for pair in pairs:
        expected = predict(teacher, [pair.image], size="own")[0]
        np.testing.assert_allclose(np.asarray(Image.open(pair.mask)) / 255, expected, atol=0.5 / 255 + 1e-6)


def test_the_loss_summed_over_pixels_is_the_mean_times_their_number() -> None:
    (batch,), student = batches(1), seeded(Student).double()
    for step in (DistillationStep, SaliencyStep):
        given = (Teacher(seeded(Trainer, 8).double()),) if step is DistillationStep else ()
        options: dict[str, Any] = {"loss": "dice"}
        mean, total = (step(*given, reduction=kind, **options)(student, batch) for kind in ("mean", "sum"))
        height, width = batch.images.shape[-2:]
        torch.testing.assert_close(total, mean * height * width)
    with pytest.raises(ValueError, match="reduction='none' must be one of 'mean', 'sum'"):
        DistillationStep(None, reduction="none")


def test_all_outputs_are_compared_with_the_first_of_the_teacher() -> None:
    (batch,) = batches(1)
    student, teacher = seeded(Student).double(), seeded(Student, 7).double().eval()
    step = DistillationStep(Teacher(teacher))
    with torch.no_grad():
        target = teacher(batch.images).sigmoid()
        late, early = student.forward_multi(batch.images)
        expected = dice_loss(late, target) + 0.5 * dice_loss(early, target)
        assert float(step(student, batch)) == pytest.approx(float(expected), abs=1e-12)
        single = DistillationStep(Teacher(teacher), weights=[2.0])(seeded(lambda: nn.Conv2d(3, 1, 1)).double(), batch)
        assert float(single) > 1
    assert not step.targets(batch).requires_grad
    assert "forward" not in vars(student)


def test_supervised_training_uses_all_outputs_too() -> None:
    (batch,) = batches(1)
    batch = batch._replace(masks=(batch.images[:, :1] > 0.5).double())
    student, step = seeded(Student).double(), SaliencyStep("dice + boundary_dice")
    step.set_epoch(19)
    with torch.no_grad():
        parts = [
            dice_loss(x, batch.masks) + boundary_dice_loss(x, batch.masks, width=9)
            for x in student.forward_multi(batch.images)
        ]
        assert float(step(student, batch)) == pytest.approx(float(parts[0] + 0.5 * parts[1]), abs=1e-12)


def test_all_outputs_of_a_compiled_network() -> None:
    torch._dynamo.reset()
    student, x = seeded(Student).eval(), torch.rand(2, 3, 9, 9)
    compiled = torch.compile(student, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for found, expected in zip(all_outputs(compiled, x), student.forward_multi(x), strict=True):
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(compiled(x), student(x))
        assert len(all_outputs(compiled, x)) == 2


def test_teacher_in_another_precision_and_size(folder: Path) -> None:
    teacher = seeded(Trainer, 8)
    learned(folder, teacher, teacher_amp="bf16", teacher_size=48, epochs=1, finetune_epochs=0)
    assert teacher.seen == {(False, False, torch.bfloat16)}
    maps = Teacher(teacher, size=48)(torch.rand(2, 3, 32, 40))
    assert maps.shape == (2, 1, 32, 40)
    assert len({Teacher(teacher, **options).fingerprint() for options in ({}, {"size": 48}, {"amp": "bf16"})}) == 3


class Stop(Callback):
    """Ends the process in a step, as SIGTERM does."""

    def __init__(self, epoch: int, step: int) -> None:
        self.where = epoch, step

    def on_step_end(self, _run: Any, record: Any) -> None:
        if (record.epoch, record.step) == self.where:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("keeps", [False, True])
def test_resumed_bit_for_bit(keeps: bool, folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"maps": tmp_path / "maps"} if keeps else {}
    whole = learned(folder, **options)
    options |= {"checkpoints": tmp_path / "checkpoints", "resume": True}
    for where in ((1, 2), (2, 1), (2, 3)):
        with pytest.raises(SystemExit):
            learned(folder, callbacks=[Stop(*where)], **options)
    again = learned(folder, **options)
    check_equal(state_of(again.model), state_of(whole.model))
    assert [step.loss for step in again.history.steps] == [step.loss for step in whole.history.steps]
    with pytest.raises(TrainingError, match=r"other options: step=.*teacher"):
        learned(folder, seeded(Trainer, 9), **options)


def test_more_epochs_equal_a_run_that_was_asked_for_them_at_once(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "constant", "checkpoints": tmp_path, "resume": True}
    shorter = learned(folder, **options).config
    more = {"epochs": shorter.epochs + 3, "finetune_epochs": shorter.finetune_epochs + 1}
    found = learned(folder, **options, **more)
    whole = learned(folder, schedule="constant", **more)
    check_equal(state_of(found.model), state_of(whole.model))
    assert [step.loss for step in found.history.steps] == [step.loss for step in whole.history.steps]


def test_photographs_are_found(tmp_path: Path) -> None:
    pairs = make_data_set(tmp_path / "set", 3)
    for source in (pairs, tmp_path / "set"):
        found = find_images(source)
        assert [pair.image for pair in found] == [pair.image for pair in pairs]
        assert all(pair.mask == pair.image for pair in found)
    files = [pair.image for pair in pairs]
    assert [pair.image for pair in find_images(files)] == files


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda _: [], "no photograph"),
        (lambda folder: [folder / "0.png", folder / "0.png"], "is given twice"),
        (lambda folder: folder / "none", "no such folder"),
        (lambda folder: folder, "no image in this folder"),
    ],
)
def test_photographs_that_are_not_found(source: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=message):
        find_images(source(tmp_path))


def test_a_map_that_is_nearly_black_is_a_mask(tmp_path: Path) -> None:
    write_map(tmp_path / "map.png", np.full((40, 40), 0.004, np.float32))
    assert np.asarray(Image.open(tmp_path / "map.png")).max() == 0


@pytest.mark.parametrize("keeps", [False, True])
def test_photographs_that_cannot_be_read_are_skipped(keeps: bool, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photographs", 4)
    truncate(folder / "2.png", 0.1)
    options: dict[str, Any] = {"maps": tmp_path / "maps"} if keeps else {}
    with pytest.warns(SkippedPairWarning, match=r"2\.png"):
        result = learned(folder, epochs=1, finetune_epochs=0, **options)
    assert result.history.epochs[0].images in {2, 4}
    for path in folder.iterdir():
        truncate(path, 0)
    with pytest.raises(DataSetError, match=r"no photograph has a map|none of the"):
        learned(folder, epochs=1, finetune_epochs=0, **options)


def test_validation_with_masks(tmp_path: Path) -> None:
    pairs = make_data_set(tmp_path / "set", 4)
    for validation in (pairs, tmp_path / "set", pairs.pairs):
        result = learned(find_pairs(tmp_path / "set"), validation=validation, epochs=1, finetune_epochs=0)
        assert sorted(result.history.epochs[0].validation) == ["mae", "max_f"]


@pytest.mark.parametrize(
    ("teacher", "options", "error", "message"),
    [
        (3, {}, TypeError, "teacher=3 must be a torch.nn.Module"),
        (nn.Conv2d(3, 2, 1), {}, ValueError, r"the teacher returned \(2, 2, 32, 32\)"),
        (nn.Conv2d(3, 1, 1), {"teacher_amp": "int8"}, ValueError, "teacher_amp='int8' must be one of 'bf16'"),
        (
            nn.Conv2d(3, 1, 1),
            {"lr": 1e-3},
            TypeError,
            r"lr=0.001 is an option of the config: pass config=DistillationConfig\(lr=...\)",
        ),
        (nn.Conv2d(3, 1, 1), {"step": 1}, TypeError, r"argument='step' is none of distill\(\)"),
        (
            nn.Conv2d(3, 1, 1),
            {"batch_sise": 1},
            TypeError,
            r"'batch_sise' is none of distill\(\); did you mean 'batch_size'\?",
        ),
        (
            nn.Conv2d(3, 1, 1),
            {"callback": []},
            TypeError,
            r"'callback' is none of distill\(\); did you mean 'callbacks'\?",
        ),
        (nn.Conv2d(3, 1, 1), {"loss": "dise"}, ValueError, "loss='dise' names 'dise', expected a sum of"),
    ],
)
def test_bad_arguments_are_named(
    teacher: Any, options: Any, error: type[Exception], message: str, folder: Path
) -> None:
    call, base = (distill, {}) if error is TypeError else (distilled, SMALL)
    with pytest.raises(error, match=message):
        call(seeded(Student), teacher, folder, **{**base, **options})
    with pytest.raises(TypeError, match=r"student='csnet_x1' must be a torch\.nn\.Module"):
        distill("csnet_x1", nn.Conv2d(3, 1, 1), folder)  # type: ignore[arg-type]


def test_a_teacher_of_no_numbers_is_named(folder: Path) -> None:
    teacher = nn.Conv2d(3, 1, 1)
    nn.init.constant_(teacher.bias, float("nan"))
    with pytest.raises(ValueError, match="teacher's map is not a number"):
        distilled(seeded(Student), teacher, folder, **SMALL)


@pytest.mark.slow
def test_networks_of_this_package(folder: Path) -> None:
    for teacher, student in (("test_csf_resnet", "test_csnet"), ("test_scfnet", "test_scfnet")):
        options = {**SMALL, "threshold": 0.9999, "weight_decay": 3.0, "optimizer": torch.optim.Adam}
        result = distilled(goctconv.create_model(student), goctconv.create_model(teacher), folder, **options)
        assert result.report.removed > 0


def together(rank: int) -> Any:
    """Train in float64 on the batches of a process; of all, if the rank is negative."""
    data = batches(RANKS * STEPS)
    mine = data if rank < 0 else data[rank::RANKS]
    step = DistillationStep(Teacher(seeded(Trainer, 8).double()))
    return learn(seeded(Student).double(), mine, step=step, accumulate=RANKS if rank < 0 else 1, **OPTIONS)


def main(rank: int, folder: Path, images: Path) -> None:
    with connected(rank, folder):
        result = together(rank)
        save_file(state_of(result.model), folder / f"{rank}.safetensors")
        teacher = seeded(Trainer, 8)
        data = with_maps(find_images(images), Teacher(teacher), folder / "maps", size=32, batch_size=2)
        found = {"images": teacher.images, "maps": [pair.mask.is_file() for pair in data]}
        found["steps"] = [step.loss for step in result.history.steps]
        (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def test_two_processes_equal_one_that_accumulates(folder: Path, tmp_path: Path) -> None:
    run_ranks(__file__, tmp_path, str(folder))
    expected = together(-1)
    assert 0 < expected.report.removed < 12
    for rank in range(RANKS):
        found = load_file(tmp_path / f"{rank}.safetensors")
        for name, parameter in expected.model.named_parameters():
            torch.testing.assert_close(found[name], parameter.detach(), rtol=1e-10, atol=1e-10)
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["steps"] == pytest.approx([step.loss for step in expected.history.steps], rel=1e-10)
        assert len(told["steps"]) == STEPS * (EPOCHS + 1)
        assert (told["images"], told["maps"]) == (3, [True] * 6)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
