"""Two processes equal one that accumulates their batches; BatchNorm's statistics are each process's own.

Run as a script, this file is one of the two processes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goctconv.training import TrainingError
from reference.processes import RANKS, connected, run_ranks
from reference.training import EPOCHS, FINETUNE_EPOCHS, OPTIONS, Pictures, check_equal, learn, network, state_of

LOSS = nn.CrossEntropyLoss()
STEPS = 3


def shards() -> list[list[tuple[Tensor, Tensor]]]:
    """The batches of each process, of two images."""
    data = Pictures(RANKS * STEPS * 2, torch.float64)
    batches = list(zip(data.images.split(2), data.labels.split(2), strict=True))
    return [batches[rank::RANKS] for rank in range(RANKS)]


def learned(batches: Any, **options: Any) -> Any:
    run = {**OPTIONS, "threshold": 0.195, **options}
    return learn(network(0).double(), batches, LOSS, **run)


def poisoned(rank: int, folder: Path) -> str:
    """Only one process has a loss that is not finite; both stop."""
    batches = shards()[rank]
    if rank:
        batches[1] = (batches[1][0] * float("nan"), batches[1][1])
    try:
        learned(batches, checkpoints=folder / "poisoned")
    except TrainingError as error:
        return str(error)
    return "nothing happened"


def main(rank: int, folder: Path) -> None:
    with connected(rank, folder):
        batches = shards()[rank]
        result = learned(batches, checkpoints=folder / "checkpoints")
        save_file(state_of(result.model), folder / f"{rank}.safetensors")
        again = learned(
            batches, checkpoints=folder / "checkpoints", resume=folder / "checkpoints" / f"{EPOCHS + 1:05d}"
        )
        save_file(state_of(again.model), folder / f"again-{rank}.safetensors")
        found = {"steps": [one.loss for one in result.history.steps], "images": result.history.series("images")}
        try:
            learned(batches[: 2 + rank])
        except TrainingError as error:
            found["uneven"] = str(error)
        found["poisoned"] = poisoned(rank, folder)
        (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes left."""
    folder = tmp_path_factory.mktemp("processes")
    run_ranks(__file__, folder)
    return folder


def found_by(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{rank}.json").read_text())
    return found


def test_two_processes_equal_one_that_accumulates(folder: Path) -> None:
    together = [batch for pair in zip(*shards(), strict=True) for batch in pair]
    expected = learned(together, accumulate=RANKS)
    assert 0 < expected.report.removed < 24
    parameters = dict(expected.model.named_parameters())
    for rank in range(RANKS):
        found = load_file(folder / f"{rank}.safetensors")
        for name, parameter in parameters.items():
            torch.testing.assert_close(found[name], parameter.detach(), rtol=1e-10, atol=1e-10)
        losses = found_by(folder, rank)["steps"]
        assert losses == pytest.approx([one.loss for one in expected.history.steps], rel=1e-10)
        assert found_by(folder, rank)["images"] == [RANKS * STEPS * 2] * (EPOCHS + FINETUNE_EPOCHS)


def test_processes_hold_the_same_parameters_and_resume_bit_for_bit(folder: Path) -> None:
    first, second = (load_file(folder / f"{rank}.safetensors") for rank in range(RANKS))
    names = [name for name, _ in network().named_parameters()]
    assert all(torch.equal(first[name], second[name]) for name in names)
    check_equal(load_file(folder / "again-0.safetensors"), first)
    again = load_file(folder / "again-1.safetensors")
    assert all(torch.equal(again[name], second[name]) for name in names)


def test_one_process_writes(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["00002", "00003", "00004", "00005"]


def test_processes_with_different_numbers_of_batches_are_refused(folder: Path) -> None:
    for rank in range(RANKS):
        assert "the processes have 2, 3 batches, and must have as many" in found_by(folder, rank)["uneven"]


def test_a_loss_that_is_not_finite_in_one_process_stops_all(folder: Path) -> None:
    messages = [found_by(folder, rank)["poisoned"] for rank in range(RANKS)]
    assert messages[0].startswith("phase train, epoch 1 of 5, step 2: the loss is not finite in another process")
    assert messages[1].startswith("phase train, epoch 1 of 5, step 2: the loss is nan")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
