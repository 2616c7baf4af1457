"""Errors of training."""

from __future__ import annotations

from pathlib import Path

from .._checks import in_python, spelled


class TrainingError(RuntimeError):
    """Training cannot go on, or a checkpoint cannot be written, read or used; the message names the cure.

    Attributes:
        problem: What happened; it names options as `goctconv.ArgumentError` does.
        checkpoint: The last good checkpoint, if there is one.
        can_resume: Whether going on from there may come to another end; a loss that is not finite comes again.

    Example:
        >>> from goctconv.training import TrainingError
        >>> TrainingError("epoch 2, step 1: the loss is nan", can_resume=False).can_resume
        False
    """

    def __init__(self, problem: str, *, checkpoint: Path | None = None, can_resume: bool = True) -> None:
        super().__init__(spelled(problem, in_python))
        self.problem = problem
        self.checkpoint = checkpoint
        self.can_resume = can_resume

    def at(self, checkpoint: Path | None) -> TrainingError:
        """Return the error of a run whose last good checkpoint is known."""
        where = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint to go on from"
        return TrainingError(f"{self.problem}; {where}", checkpoint=checkpoint, can_resume=self.can_resume)
