"""What samplers ask data sets for."""

from typing import NamedTuple


class SampleKey(NamedTuple):
    """The number of a pair, an epoch and a size (None: its own): all that an example depends on besides the seed."""

    epoch: int
    number: int
    size: tuple[int, int] | None
