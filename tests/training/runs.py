"""Runs of learning that are killed: as a script, this file forks a child for every attempt, until one ends.

    python runs.py FOLDER SEED SIGNAL

Every child goes on from the last checkpoint. With the seed, it is drawn after how many events each child kills itself
with the signal: an event is a step, an epoch, or a moment inside the writing of a checkpoint. The folder then holds the
final weights, and what every child left behind when it died.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # in the parent, once, what every child would import
from safetensors.torch import save_file
from torch import nn

from goctconv.training import Callback, TrainingHistory
from reference.training import OPTIONS, learn, loader, network, state_of

MOST_EVENTS = 26  # until a child kills itself: an epoch has about ten
ATTEMPTS = 60


class Killer(Callback):
    """Counts events, and ends the process in one of them."""

    def __init__(self, left: int, number: signal.Signals = signal.SIGKILL) -> None:
        self.left, self.number = left, number

    def event(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)

    on_start = on_epoch_start = on_step_end = on_epoch_end = on_pruned = event

    def also_in_checkpoints(self) -> None:
        """Count what the writing of a checkpoint does too: files that are complete, folders that get their name."""
        flush, rename = os.fsync, Path.rename

        def counted_flush(descriptor: int) -> None:
            self.event()
            flush(descriptor)

        def counted_rename(path: Path, target: Path) -> Path:
            self.event()
            return rename(path, target)

        os.fsync, Path.rename = counted_flush, counted_rename  # type: ignore[method-assign,assignment]


def attempt_run(folder: Path, callbacks: Any = (), **options: Any) -> tuple[nn.Module, TrainingHistory]:
    result = learn(
        network(), loader(), nn.CrossEntropyLoss(), checkpoints=folder, resume=True, callbacks=callbacks,
        **{**OPTIONS, **options},
    )  # fmt: skip
    return result.model, result.history


def attempt(folder: Path, events: int, number: signal.Signals) -> int:
    """Run in a child until it dies or ends; return its status."""
    if (child := os.fork()) == 0:
        killer = Killer(events, number)
        if number == signal.SIGKILL:
            killer.also_in_checkpoints()
        try:
            model, history = attempt_run(folder / "checkpoints", [killer])
            save_file(state_of(model), folder / "final.safetensors")
            (folder / "history.json").write_text(json.dumps(history.to_dict()), encoding="utf-8")
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        except BaseException as error:  # noqa: BLE001  # told to the test
            (folder / "error.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main(folder: Path, seed: int, number: signal.Signals) -> None:
    torch.set_num_threads(1)
    drawn = random.Random(seed)  # noqa: S311  # not for secrets
    left = []
    for _ in range(ATTEMPTS):
        status = attempt(folder, drawn.randrange(1, MOST_EVENTS), number)
        checkpoints = folder / "checkpoints"
        left.append(sorted(path.name for path in checkpoints.iterdir()) if checkpoints.is_dir() else [])
        (folder / "left.json").write_text(json.dumps(left), encoding="utf-8")
        if not (os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM):
            raise SystemExit(os.waitstatus_to_exitcode(status))
    raise SystemExit("no attempt came to an end")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), signal.Signals(int(sys.argv[3])))
