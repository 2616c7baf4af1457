"""``goctconv learn``: its options, each of them with the same name on the command line and in a file."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._types import integer_from, network_size
from ._presets import PRESETS

Size = int | tuple[int, int]

FIXED, UNTIL_PRUNED, FREE = "fixed", "until pruned", "free"
"""When the value may change between a run and its resumption."""

_CRITERIA = ("auto", "bn_scale", "bn_scale_first", "l1_filter", "geometric_median")


@dataclass(frozen=True)
class Option:
    """An option of ``goctconv learn``.

    Args:
        name: As typed, without dashes in front; in files too.
        help: What it is.
        parse: Makes a value of a text; None for a switch.
        metavar: What stands for the value in the help.
        default: The value where nobody gives one; None if there is none.
        changes: When a run that is resumed may have another value.
    """

    name: str
    help: str
    parse: Callable[[str], Any] | None = None
    metavar: str = ""
    default: Any = None
    changes: str = FIXED

    @property
    def field(self) -> str:
        """The name in Python."""
        return self.name.replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.parse is None


def _number(*, above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = _float(text)
        if not math.isfinite(value) or (above is not None and value <= above) or (least is not None and value < least):
            bound = f"above {above:g}" if above is not None else f"from {least:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bound}")
        return value

    return parse


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return parse


def absolute_path(text: str) -> Path:
    return Path(text).absolute()


def _threshold(text: str) -> float | str:
    if text == "gap":
        return text
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0, such as 1e-20, nor gap")
    return value


def _sizes(text: str) -> tuple[Size, ...]:
    return tuple(network_size(part.strip()) for part in text.split(","))


def _validation(text: str) -> float | Path:
    value = _float(text)
    if math.isnan(value):
        return absolute_path(text)
    if text.isdigit():
        return int(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a share from 0 to below 1, nor a number of pairs, nor a folder"
        )
    return value


def _loss(text: str) -> str:
    from ...saliency.losses import get_loss  # noqa: PLC0415  (Pillow loads slowly, and --help does not need it)

    try:
        get_loss(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


DATA = Option("data", "folders or lists (.lst) of photographs and masks", absolute_path, "DATA_DIR")

GROUPS: dict[str, tuple[Option, ...]] = {
    "run": (
        Option("output", "folder for everything that the run writes", absolute_path, "DIR", changes=FREE),
        Option("preset", f"what the defaults are for: {', '.join(PRESETS)}", _one_of(*PRESETS), "NAME", "csnet"),
        Option("seed", "of weights, order, transforms and split", integer_from(0), "N", 0),
        Option("tensorboard", "write DIR/tensorboard too", changes=FREE),
        Option("quiet", "no progress, no notes", changes=FREE),
        Option("json", "print the summary as JSON", changes=FREE),
    ),
    "data": (
        Option("val", "folder, or share or number of the pairs, to compare maps with; 0: none", _validation, "V", 0.1),
        Option("size", "of images; of several, each batch has one", _sizes, "N|HxW,...", (224,)),
        Option("shrink", "shrink photographs to N pixels on the shorter side first", integer_from(1), "N"),
        Option("cache", "folder for decoded copies of photographs", absolute_path, "DIR", changes=FREE),
        Option("workers", "processes that read photographs", integer_from(0), "N", 2, FREE),
    ),
    "network": (
        Option("model", "name, or local-dir:DIR with its weights", str, "NAME", "csnet_x2"),
        Option("weights", "checkpoint to begin with", absolute_path, "FILE"),
    ),
    "learning": (
        Option("epochs", "with dynamic weight decay", integer_from(1), "N", 300),
        Option("finetune-epochs", "of the slim network", integer_from(0), "N", 20, UNTIL_PRUNED),
        Option("batch-size", "images in a batch of each process", integer_from(1), "N", 24),
        Option("accumulate", "batches in a step of the optimizer", integer_from(1), "N", 1),
        Option("lr", "learning rate; a tenth of it after 2/3 of a phase, again after 5/6", _number(above=0), "X", 1e-4),
        Option("weight-decay", "λ of dynamic weight decay", _number(least=0), "X", 3.0),
        Option("ordinary-weight-decay", "of all other parameters", _number(least=0), "X", 5e-3),
        Option("loss", "bce, iou, ssim, dice, boundary_dice, or a sum such as bce+0.5*ssim", _loss, "NAME", "bce"),
        Option(
            "threshold",
            "channels with a score below X go; gap: look for a gap in the histogram of γ",
            _threshold,
            "X|gap",
            1e-20,
            UNTIL_PRUNED,
        ),
        Option(
            "criterion",
            f"the score: {', '.join(_CRITERIA)}; auto is the published one",
            _one_of(*_CRITERIA),
            "NAME",
            "auto",
            UNTIL_PRUNED,
        ),
    ),
    "computing": (
        Option("device", "cpu, cuda, cuda:1 ...; auto is CUDA if there is one", str, "NAME", "auto", FREE),
        Option("threads", "of PyTorch in each process", integer_from(1), "N"),
        Option("amp", "mixed precision: bf16, fp16 or none", _one_of("none", "bf16", "fp16"), "KIND", "none"),
        Option("channels-last", "lay images out pixel by pixel in memory, which is faster"),
        Option("compile", "compile the network, which takes minutes first"),
    ),
}

OPTIONS: dict[str, Option] = {DATA.name: DATA} | {one.name: one for group in GROUPS.values() for one in group}
