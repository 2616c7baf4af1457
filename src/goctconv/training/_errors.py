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


class ThresholdError(ValueError):
    """No threshold separates the γ that have faded from the others.

    Attributes:
        problem: What the histogram is like.
        checkpoint: From where a run can go on, if there is a checkpoint.

    Example:
        >>> from goctconv.training import ThresholdError
        >>> ThresholdError("there is no valley in the histogram of 64 γ").checkpoint
    """

    def __init__(self, problem: str, *, checkpoint: Path | None = None) -> None:
        super().__init__(spelled(problem, in_python))
        self.problem = problem
        self.checkpoint = checkpoint

    def at(self, checkpoint: Path | None) -> ThresholdError:
        """Return the error of a run whose last checkpoint is known."""
        cure = "the model that you passed is trained; prune it with goctconv.prune_channels"
        if checkpoint is not None:
            cure = f"go on from {checkpoint} with {{resume=True}} and a number as {{threshold}}"
        error = ThresholdError(f"{self.problem}; {cure}", checkpoint=checkpoint)
        error.problem = self.problem
        return error
