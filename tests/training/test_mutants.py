"""Damaged checkpoints, a few of each file: `benchmarks/fuzz_files.py` reads thousands."""

import json
from pathlib import Path

import pytest
from torch import nn

from goctconv.training import TrainingError
from goctconv.training._checkpoint_files import STATE, TENSORS
from reference.mutants import assert_read_or_refused, checkpoints
from reference.training import OPTIONS, learn, loader, network


@pytest.mark.parametrize("name", [STATE, TENSORS])
def test_damaged_checkpoints_are_resumed_or_refused_by_name(name: str, tmp_path: Path) -> None:
    assert_read_or_refused(checkpoints(tmp_path)[name], tmp_path)


@pytest.mark.parametrize("name", [STATE, TENSORS])
def test_one_byte_of_a_checkpoint_is_noticed(name: str, tmp_path: Path) -> None:
    run = {"train_loader": loader(), "loss_fn": nn.CrossEntropyLoss(), **OPTIONS, "finetune_epochs": 1}
    learn(network(), checkpoints=tmp_path, **run)
    file = tmp_path / "00004" / name
    content = bytearray(file.read_bytes())
    place = content.index(b'"seconds": 0.') + len(b'"seconds": 0.') if name == STATE else len(content) - 1
    content[place] = ord("1") if content[place] != ord("1") else ord("2")
    file.write_bytes(content)
    with pytest.raises(TrainingError, match="00004 is damaged: its checksum is not that of its files: resume from"):
        learn(network(), resume=tmp_path / "00004", **run)
    if name == STATE:  # of an earlier version, there is none
        state = json.loads(content)
        del state["checksum"]
        file.write_text(json.dumps(state), encoding="utf-8")
        assert len(learn(network(), resume=tmp_path / "00004", **run).history.epochs) == 4
