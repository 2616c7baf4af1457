"""What was done to a network on its way to where it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DeploymentReport:
    """What `deploy` did to a network.

    Attributes:
        network: Class of the network.
        backend: "eager" or "compile".
        dtype: What it computes in, such as "float32".
        folded: Names of the normalisation layers that are part of convolutions now.
        scaled: Names of the convolutions that multiplied their weight by a constant in every pass.
        dropped: Names of the convolutions that only added zero.
        flushed: Number of weights that were set to zero because they were too small for a normal number.
        rewritten: Names of the blocks that run in a form made for speed.
        notes: What was not done, and why.

    Example:
        >>> import goctconv
        >>> deployed = goctconv.deploy(goctconv.create_model("test_csnet").eval())
        >>> len(deployed.deployment.folded)
        28
    """

    network: str
    backend: str
    dtype: str
    folded: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    flushed: int = 0
    rewritten: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"{self.network} for {self.backend} execution in {self.dtype}",
            f"  {_counted(self.folded, 'normalisation layer')} folded into convolutions",
            f"  {_counted(self.scaled, 'constant factor')} multiplied into weights",
            f"  {_counted(self.dropped, 'convolution')} dropped that only added zero",
            f"  {self.flushed} weight{'' if self.flushed == 1 else 's'} set to zero, too small for a normal number",
            f"  {_counted(self.rewritten, 'block')} rewritten for speed",
        ]
        return "\n".join(lines + [f"  not done: {note}" for note in self.notes])


def _counted(names: Iterable[str], what: str) -> str:
    number = len(tuple(names))
    return f"{number} {what}{'' if number == 1 else 's'}"
