"""SaliencyConfig: every option of a run on photographs and masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..._checks import ArgumentError, ArgumentTypeError, check_integer
from ...options import FREE, Kind, choice, documented, integer, number, option, path, several
from ...training import TrainingConfig
from .._resize import MIN_SIZE, OWN
from ..data import both_loaders
from ..losses import get_loss
from ..losses._basic import Reduction
from ..transforms import ColorJitter, GaussianBlur, RandomCrop, RandomFlip
from ..transforms._sample import Transform
from ._task import REDUCTIONS, Pairs, SaliencyStep, SaliencyValidation, Task, found_pairs

_FLIPS = ("both", "horizontal", "none")


def _check_size(name: str, value: Any) -> int | tuple[int, ...] | str:
    if isinstance(value, tuple | list) and len(value) == 2:
        return tuple(check_integer(name, side, MIN_SIZE) for side in value)
    return OWN if value == OWN else check_integer(name, value, MIN_SIZE)


def _parse_size(text: str) -> Any:
    sides = text.lower().split("x")
    if not all(side.isascii() and side.isdigit() for side in sides):
        return text
    return tuple(map(int, sides)) if len(sides) > 1 else int(text)


def _are_sizes(sizes: tuple[Any, ...]) -> bool:
    return bool(sizes) and (OWN not in sizes or len(sizes) == 1)


def _check_loss(name: str, value: Any) -> Any:
    if callable(value) and not isinstance(value, type):
        return value
    if not isinstance(value, str):
        raise ArgumentTypeError(name, value, "a name, or a function of logits and masks")
    get_loss(value)  # which says what is wrong
    return value


def _check_color(name: str, value: Any) -> tuple[float, ...]:
    found: tuple[float, ...] = _COLOR.check(name, value)
    return found * (3 // len(found))


_COLOR = several(number(0, 1), "one share or three, such as 0.4 or 0.4,0.2,0", "X|X,X,X", lambda x: len(x) in {1, 3})
SIZE = Kind(_check_size, _parse_size, "N|HxW")


@documented
@dataclass(frozen=True, kw_only=True)
class SaliencyConfig(TrainingConfig):
    """The options of a run of `learn`, added to those of `goctconv.training.TrainingConfig`.

    The defaults are the published ones of CSNet; `get_preset` returns others.

    Raises:
        ArgumentError: A value that cannot be, or values that contradict each other.
        ArgumentTypeError: An unknown option, or a value of another type.

    Example:
        >>> from goctconv.saliency import SaliencyConfig
        >>> config = SaliencyConfig(sizes=(192, (224, 320)), batch_size=8, threshold=1e-3)
        >>> config.changes()["batch-size"]
        '8'
    """

    sizes: Any = option(
        (224,),
        "image size: a number, or height and width; of several, each batch has one; own: each image keeps its own, in "
        "batches of 1",
        several(SIZE, f"sizes of at least {MIN_SIZE} pixels, or 'own' alone", "N|HxW,...|own", _are_sizes),
        group="data",
        spelling="size",
    )
    crop: int = option(15, "crop up to N pixels off each side at random", integer(0), group="data")
    flip: str = option("both", f"random flips: {', '.join(_FLIPS)}", choice(*_FLIPS, metavar="KIND"), group="data")
    color: tuple[float, ...] = option(
        (0.0, 0.0, 0.0),
        "random change of brightness, contrast and saturation, by up to this share, or one each",
        replace(_COLOR, check=_check_color),
        group="data",
    )
    blur: float = option(0.0, "share of the images that are blurred", number(0, 1), group="data")
    foreground: tuple[int, ...] | None = option(
        None,
        "values of the masks, or indices of their palettes, that are foreground, such as 1,2; not set: decided for the "
        "whole data set",
        several(integer(0), "values from 0 on, such as 1,2", "N,...", bool).optional(),
        group="data",
    )
    shrink: int | None = option(
        None,
        "first shrink images to N pixels on the shorter side; about twice {sizes}",
        integer(1).optional(),
        group="data",
    )
    cache: Path | None = option(
        None, "folder for decoded copies of images", path("DIR").optional(), group="data", resume=FREE
    )
    workers: int = option(2, "processes that load images", integer(0), group="data", resume=FREE)
    batch_size: int = option(24, "images per batch and process", integer(1))
    loss: Any = option(
        "bce",
        "loss: bce, iou, ssim, dice, boundary_dice, or a sum such as bce+0.5*ssim",
        Kind(_check_loss, str, "NAME"),
        in_python="or a function of logits and masks",
    )
    reduction: Reduction = option(
        "mean", "reduction of the loss over the pixels of an image: mean or sum", choice(*REDUCTIONS, metavar="KIND")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if OWN in self.sizes and self.batch_size > 1:
            raise ArgumentError(
                "sizes",
                OWN,
                problem=f"gives images of different sizes, which make no batch of {{batch_size={self.batch_size}}}",
                cure="pass {batch_size=1}, and {accumulate=10} for steps of ten images; or one size for all",
            )

    def loader_options(self) -> dict[str, Any]:
        """Return the arguments of the loaders of photographs."""
        names = ("sizes", "foreground", "batch_size", "workers", "seed", "shrink", "cache", "accumulate")
        return {name: getattr(self, name) for name in names} | {"transforms": self.transforms()}

    def transforms(self) -> tuple[Transform, ...]:
        """Return how photographs are changed at random, with their masks."""
        crop = (RandomCrop(self.crop),) if self.crop else ()
        flip = () if self.flip == "none" else (RandomFlip(vertical=0.5 if self.flip == "both" else 0),)
        color = (ColorJitter(*self.color),) if any(self.color) else ()
        blur = (GaussianBlur(probability=self.blur),) if self.blur else ()
        return (*crop, *flip, *color, *blur)

    def learning_task(
        self,
        train: Pairs,
        validation: Pairs | None = None,
        *,
        transforms: Iterable[Transform] | None = None,
        pin_memory: bool = False,
    ) -> Task:
        """Return the ``loaders``, ``step`` and ``validate`` that `learn` gives to `goctconv.learn_channels`.

        Args:
            train: As for `learn`.
            validation: As for `learn`.
            transforms: As for `learn`.
            pin_memory: Whether tensors are put into page-locked memory, from where GPUs copy faster.
        """
        options = self.loader_options() | ({} if transforms is None else {"transforms": transforms})
        compared = None if validation is None else found_pairs(validation)
        loaders = both_loaders(found_pairs(train), compared, **options, pin_memory=pin_memory)
        validate = None if loaders.validation is None else SaliencyValidation(loaders.validation)
        return Task(loaders, SaliencyStep(self.loss, self.reduction), validate)
