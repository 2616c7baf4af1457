"""Protocols of evaluation: the choices in which toolboxes differ."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..._checks import check_choice, check_integer, check_number


@dataclass(frozen=True)
class Protocol:
    """A way to turn maps and masks into numbers.

    The same maps score differently in different toolboxes, because these differ in what is listed here. Every report
    names its protocol. For one of your own, change a known one: ``dataclasses.replace(get_protocol("paper"),
    name="mine", thresholds=255)``.

    Args:
        name: What reports call it.
        rounding: How probabilities become 8-bit levels: "truncate" or "nearest". Maps of type uint8 are levels already.
        rescale: Stretch each map from its smallest to its largest level (after the rounding; constant maps stay).
        mask_threshold: A mask's pixel is foreground where its 8-bit level is greater.
        thresholds: How many thresholds the curves have, evenly from level 0 to level 255.
        inclusive: A pixel is predicted to be foreground where it is at least the threshold; False: greater than it.
        epsilon: Added to numerator and denominator of precision and recall.
        average: "curves": F is that of precision and recall averaged over the images; "images": F is averaged.
        grey_masks: The mean absolute error is against the mask's 8-bit levels; False: against its foreground.
        empty_masks: "count": images without foreground count in every metric; "skip": in the mean absolute error only.
        alignment_divisor: The E-measure's sum over an image's N pixels is divided by "N" or by "N - 1".
        beta_squared: The weight of precision in F (of 1 in the weighted F, whatever this is).

    Raises:
        ArgumentError: A value is out of its range.

    Example:
        >>> from goctconv.saliency.metrics import get_protocol
        >>> print(get_protocol("paper"))
        paper: maps truncated to 8 bits, not rescaled; 256 thresholds, >; F of averaged precision and recall, epsilon
        0.0001; masks > 128, grey in MAE; empty masks count; E over N
    """

    name: str
    rounding: Literal["truncate", "nearest"] = "truncate"
    rescale: bool = False
    mask_threshold: int = 128
    thresholds: int = 256
    inclusive: bool = False
    epsilon: float = 1e-4
    average: Literal["curves", "images"] = "curves"
    grey_masks: bool = True
    empty_masks: Literal["count", "skip"] = "count"
    alignment_divisor: Literal["N", "N - 1"] = "N"
    beta_squared: float = 0.3

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, ("truncate", "nearest"))
        check_choice("average", self.average, ("curves", "images"))
        check_choice("empty_masks", self.empty_masks, ("count", "skip"))
        check_choice("alignment_divisor", self.alignment_divisor, ("N", "N - 1"))
        check_integer("thresholds", self.thresholds, 2, cure="pass 256 for one at each 8-bit level")
        check_number("mask_threshold", self.mask_threshold, 0, below=255)
        check_number("epsilon", self.epsilon, 0)
        check_number("beta_squared", self.beta_squared, above=0)

    def __str__(self) -> str:
        average = "F of averaged precision and recall" if self.average == "curves" else "F averaged over images"
        return (
            f"{self.name}: maps {'truncated' if self.rounding == 'truncate' else 'rounded'} to 8 bits, "
            f"{'' if self.rescale else 'not '}rescaled; {self.thresholds} thresholds, "
            f"{'>=' if self.inclusive else '>'}; {average}, epsilon {self.epsilon:g}; masks > {self.mask_threshold}, "
            f"{'grey' if self.grey_masks else 'binary'} in MAE; "
            f"empty masks {'count' if self.empty_masks == 'count' else 'count in MAE only'}; "
            f"E over {self.alignment_divisor}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name, as JSON takes them."""
        return asdict(self)

    def levels(self) -> NDArray[np.float64]:
        """Return the thresholds as 8-bit levels, ascending."""
        return np.arange(self.thresholds, dtype=np.float64) * 255 / (self.thresholds - 1)


_KNOWN = {
    "paper": Protocol("paper"),
    "pysodmetrics": Protocol(
        "pysodmetrics",
        rescale=True,
        inclusive=True,
        epsilon=0.0,
        average="images",
        grey_masks=False,
        alignment_divisor="N - 1",
    ),
}


def get_protocol(protocol: "str | Protocol") -> Protocol:
    """Return a known protocol by its name.

    Args:
        protocol: "paper": as the published results of CSNet were computed. "pysodmetrics": as that toolbox computes.
            A `Protocol` is returned as it is.

    Raises:
        ArgumentError: There is no protocol of that name.

    Example:
        >>> from goctconv.saliency.metrics import get_protocol
        >>> get_protocol("pysodmetrics").rescale
        True
    """
    if isinstance(protocol, Protocol):
        return protocol
    return _KNOWN[check_choice("protocol", protocol, _KNOWN, "or pass a Protocol of your own")]
