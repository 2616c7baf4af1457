"""Errors of names, weights and licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..._checks import ArgumentError, Spelling, in_python, spelled

CONSENT_VARIABLE = "GOCTCONV_ACCEPT_LICENSES"


class UnknownModelError(ArgumentError):
    """There is no model, backbone or set of weights of this name.

    Attributes:
        nearest: Known names that are like it, the best one first.
    """

    nearest: Sequence[str] = ()

    @classmethod
    def of(cls, argument: str, name: str, kind: str, nearest: Sequence[str], cure: str) -> UnknownModelError:
        """Return the error of an unknown name, which says what the nearest known ones are."""
        hint = f" (did you mean {' or '.join(nearest)}?)" if nearest else ""
        error = cls(argument, name, cure=cure, problem=f"is no {kind}{hint}")
        error.nearest = tuple(nearest)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return *super().__reduce__(), {"nearest": self.nearest}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, is not what it should be, or does not fit the model.

    Attributes:
        source: The file, or what else the tensors come from.
        problem: What is wrong with it.
        cure: What to do instead; it names arguments as an `ArgumentError` does.
        problems: Tensors that do not fit, by what is wrong with them.
    """

    def __init__(
        self, source: object, problem: str, cure: str = "", problems: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        super().__init__(str(source), problem, cure, dict(problems or {}))
        self.source, self.problem, self.cure, self.problems = self.args

    def __str__(self) -> str:
        return self.text()

    def text(self, spelling: Spelling = in_python) -> str:
        """Return the message, with arguments written as in Python or as ``spelling`` writes them."""
        return spelled(f"{self.source} {self.problem}" + (f": {self.cure}" if self.cure else ""), spelling)


class LicenseError(PermissionError):
    """The licence of the requested weights has conditions and was not accepted.

    Attributes:
        license: The licence's SPDX identifier, such as "cc-by-nc-sa-4.0".
        weights: What the weights are of.
        source: Where they come from.
        accepted: The licence that was accepted instead, or None.
    """

    def __init__(self, license: str, weights: str, source: str, accepted: str | None = None) -> None:  # noqa: A002
        instead = f" (got accept_license={accepted!r})" if accepted else ""
        super().__init__(
            f"the weights of {weights} are the work of others, licensed {license.upper()} (source: {source}): read the "
            f"licence; if you accept it, pass accept_license={license!r} or set the environment variable "
            f"{CONSENT_VARIABLE}={license}{instead}; a file that you already have loads with checkpoint_path= instead"
        )
        self.license, self.weights, self.source, self.accepted = license, weights, source, accepted

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.license, self.weights, self.source, self.accepted)
