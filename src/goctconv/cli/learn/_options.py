"""``goctconv learn``: its options, each of them with the same name on the command line and in a file."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from ...training._param_groups import OPTIMIZERS
from ...training._schedules import PUBLISHED_MILESTONES, PUBLISHED_WARMUP
from .._arguments import integer_from, network_size, parse_model_args
from ._presets import PRESETS

Size = int | tuple[int, int] | Literal["own"]

FIXED, UNTIL_PRUNED, FREE = "fixed", "until pruned", "free"
"""When the value may change between a run and its resumption."""

SCHEDULES = ("step", "cosine", "warmup-cosine", "constant")
FLIPS = ("both", "horizontal", "none")
_CRITERIA = ("auto", "gamma", "gamma_first", "l1_filter", "geometric_median")


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
        is_list: Whether it takes several values, with commas between, and in a file a list too.
    """

    name: str
    help: str
    parse: Callable[[str], Any] | None = None
    metavar: str = ""
    default: Any = None
    changes: str = FIXED
    is_list: bool = False

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
    if text in {"valley", "none"}:
        return text
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0, such as 1e-20, nor valley, nor none")
    return value


def _sizes(text: str) -> tuple[Size, ...]:
    if text.strip() == "own":
        return ("own",)
    return tuple(network_size(part.strip()) for part in text.split(","))


def _milestones(text: str) -> tuple[float, ...]:
    shares = tuple(_share(part.strip()) for part in text.split(","))
    if list(shares) != sorted(set(shares)):
        raise argparse.ArgumentTypeError(f"{text!r} must rise, such as 2/3,5/6")
    return shares


def _share(text: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1, such as 2/3 or 0.625")
    return value


def _strength(text: str) -> float:
    value = _float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1, such as 0.4")
    return value


def _strengths(text: str) -> tuple[float, ...]:
    values = tuple(_strength(part) for part in text.split(","))
    if len(values) not in {1, 3}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither one share nor three, such as 0.4 or 0.4,0.2,0")
    return values * (3 // len(values))


def _betas(text: str) -> tuple[float, ...]:
    values = tuple(_float(part) for part in text.split(","))
    if len(values) != 2 or not all(0 <= value < 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers from 0 to below 1, such as 0.9,0.999")
    return values


def _model_args(text: str) -> str:
    parse_model_args(text)
    return text


def _backbone_weights(text: str) -> str | Path:
    return text if text in {"none", "timm"} else absolute_path(text)


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
        Option(
            "preset", f"where defaults come from: {', '.join(PRESETS)}; see above", _one_of(*PRESETS), "NAME", "csnet"
        ),
        Option("seed", "of weights, order, transforms and split", integer_from(0), "N", 0),
        Option("tensorboard", "write DIR/tensorboard too", changes=FREE),
        Option("quiet", "no progress, no notes", changes=FREE),
        Option("json", "print the summary as JSON", changes=FREE),
    ),
    "data": (
        Option("val", "folder, or share or number of the pairs, to compare maps with; 0: none", _validation, "V", 0.1),
        Option(
            "size",
            "of images; of several, each batch has one; own: each photograph keeps its own, in batches of 1",
            _sizes,
            "N|HxW,...|own",
            (224,),
            is_list=True,
        ),
        Option("crop", "cut up to N pixels off each side at random", integer_from(0), "N", 15),
        Option("flip", f"mirror half of the photographs: {', '.join(FLIPS)}", _one_of(*FLIPS), "KIND", "both"),
        Option(
            "color",
            "change brightness, contrast and saturation by up to this share, or by one each",
            _strengths,
            "X|X,X,X",
            (0.0, 0.0, 0.0),
            is_list=True,
        ),
        Option("blur", "share of the photographs that are blurred", _strength, "X", 0.0),
        Option("shrink", "shrink photographs to N pixels on the shorter side first", integer_from(1), "N"),
        Option("cache", "folder for decoded copies of photographs", absolute_path, "DIR", changes=FREE),
        Option("workers", "processes that read photographs", integer_from(0), "N", 2, FREE),
    ),
    "network": (
        Option("model", "name, or local-dir:DIR with its weights", str, "NAME", "csnet_x2"),
        Option("model-args", "of the network, such as 'norm=batch'", _model_args, "'NAME=VALUE ...'", ""),
        Option("weights", "checkpoint to begin with", absolute_path, "FILE"),
        Option(
            "backbone-weights",
            "of the backbone of a CSF or SCFNet: a file; timm: download timm's; or none",
            _backbone_weights,
            "FILE|timm|none",
            "none",
        ),
        Option("freeze-batch-norm", "leave the BatchNorms of the backbone as they are"),
    ),
    "learning": (
        Option("epochs", "with dynamic weight decay", integer_from(1), "N", 300),
        Option("finetune-epochs", "of the slim network", integer_from(0), "N", 20, UNTIL_PRUNED),
        Option("batch-size", "images in a batch of each process", integer_from(1), "N", 24),
        Option("accumulate", "batches in a step of the optimizer", integer_from(1), "N", 1),
        Option("optimizer", f"{', '.join(OPTIMIZERS)}", _one_of(*OPTIMIZERS), "NAME", "adam"),
        Option("betas", "of adam and adamw", _betas, "X,X", (0.9, 0.99), is_list=True),
        Option("lr", "learning rate", _number(above=0), "X", 1e-4),
        Option("backbone-rate", "the backbone of a CSF or SCFNet learns with X times --lr", _number(above=0), "X", 1.0),
        Option("schedule", f"of the learning rate: {', '.join(SCHEDULES)}", _one_of(*SCHEDULES), "NAME", "step"),
        Option(
            "milestones",
            "after which shares of a phase --schedule step takes a tenth",
            _milestones,
            "X,...",
            PUBLISHED_MILESTONES,
            is_list=True,
        ),
        Option("warmup", "epochs in which --schedule warmup-cosine rises", integer_from(0), "N", PUBLISHED_WARMUP),
        Option("clip-grad", "largest norm of the gradients", _number(above=0), "X"),
        Option("weight-decay", "λ of dynamic weight decay", _number(least=0), "X", 3.0),
        Option("ordinary-weight-decay", "of all other parameters", _number(least=0), "X", 5e-3),
        Option("loss", "bce, iou, ssim, dice, boundary_dice, or a sum such as bce+0.5*ssim", _loss, "NAME", "bce"),
        Option("reduction", "of the loss over an image's pixels: mean or sum", _one_of("mean", "sum"), "KIND", "mean"),
        Option(
            "threshold",
            "channels with a score below X go; valley: look for a valley in the histogram of γ; none: all stay",
            _threshold,
            "X|valley|none",
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
