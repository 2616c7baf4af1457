"""Errors of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class CheckpointError(ValueError):
    """A checkpoint cannot be read, is not what it should be, or does not fit the model.

    ``problems`` lists the tensors that do not fit, by what is wrong with them.
    """

    def __init__(self, message: str, problems: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.problems = dict(problems or {})
