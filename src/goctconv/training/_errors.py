"""Errors of training."""

from __future__ import annotations

from pathlib import Path

from .._checks import Spelling, in_python, spelled


class _RunError(Exception):
    """An error that ends a run; it names options as `goctconv.ArgumentError` does."""

    checkpoint: Path | None = None
    cure = ""

    def __init__(self, problem: str, *, can_resume: bool = False, diverged: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.can_resume = can_resume
        self.diverged = diverged

    def text(self, spelling: Spelling = in_python) -> str:
        """Return the message, with options spelled as in Python or otherwise."""
        return spelled(f"{self.problem}; {self.cure}" if self.cure else self.problem, spelling)

    def __str__(self) -> str:
        return self.text()


class TrainingError(_RunError, RuntimeError):
    """Training cannot go on, or a checkpoint cannot be written, read or used; the message names the cure.

    Attributes:
        problem: What happened.
        checkpoint: The last good checkpoint, if there is one.
        can_resume: Whether the same run can go on from there once the cause is gone, such as a full disk.
        diverged: Whether a loss or a weight is not finite, which comes again in a run that goes on.

    Example:
        >>> from goctconv.training import TrainingError
        >>> TrainingError("epoch 2, step 1: the loss is nan", diverged=True).can_resume
        False
    """


class ThresholdError(_RunError, ValueError):
    """No threshold separates the γ that have faded from the others.

    Attributes:
        problem: What the histogram is like.
        checkpoint: From where a run can go on, if there is a checkpoint.

    Example:
        >>> from goctconv.training import ThresholdError
        >>> print(ThresholdError("there is no valley in the histogram of 64 γ"))
        there is no valley in the histogram of 64 γ
    """
