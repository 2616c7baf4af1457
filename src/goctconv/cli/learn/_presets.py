"""``goctconv learn``: defaults by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _preset_scfnet


@dataclass(frozen=True)
class Preset:
    """What differs from the defaults of the options.

    Args:
        summary: One line.
        defaults: Values by the names of options.
    """

    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "scfnet": Preset(_preset_scfnet.SUMMARY, _preset_scfnet.DEFAULTS),
    "csnet": Preset("CSNet as published: 300 epochs with dynamic weight decay on the ILBlocks, 20 of fine-tuning"),
}
