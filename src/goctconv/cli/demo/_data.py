"""What the demo learns from."""

import argparse
from functools import partial
from pathlib import Path

from PIL import Image

from ..._files import write_atomic
from ...saliency import DataSet, DataSetError, ImagePair, find_pairs, split_pairs, synthetic_images
from ...saliency.data import Split, check_pairs
from .._command import CommandError
from .._output import plural, say, tell, writing
from .._predict_run import save_png

SIDES = (112, 176)  # of made-up pictures, in pixels: twice the size at which they are learned from
_FEWEST = 4
_VALIDATION = 0.16  # the share of pictures to compare with
_DATA = "data"


def take_pairs(args: argparse.Namespace) -> Split:
    """Return the pictures to learn from, and those to compare with.

    Raises:
        CommandError: There are too few, or no masks.
    """
    if args.images < _FEWEST:
        raise CommandError(f"--images {args.images}: at least {_FEWEST} are needed to learn from.")
    if args.data is None:
        tell(f"drawing {plural(args.images, 'picture')} with masks")
        found = _made_up(args.output / _DATA, args.images, args.seed)
    else:
        found = _own(args.data)
    pairs = found.pairs
    if len(pairs) < _FEWEST:
        raise CommandError(f"--data {args.data}: {plural(len(pairs), 'pair')} found, at least {_FEWEST} are needed.")
    if len(pairs) > args.images:
        pairs = split_pairs(pairs, args.images, seed=args.seed).validation  # drawn by the seed
    return split_pairs(pairs, max(1, round(_VALIDATION * len(pairs))), seed=args.seed)


def _own(folder: Path) -> DataSet:
    try:
        found = find_pairs(folder)
    except DataSetError as error:
        raise CommandError(
            f"--data {error}", "  to show maps of photographs without masks, add --no-learn or name weights."
        ) from error
    checked = check_pairs(found.pairs)
    for pair in checked.skipped:
        say(f"goctconv: {pair.name} is left out: {pair.reason}")
    alone = len(found.lone_images) + len(found.lone_masks) + len(found.missing)
    note = f"; {plural(alone, 'file')} without a partner left out" if alone else ""
    tell(f"{plural(len(checked.pairs), 'photograph')} with masks in {folder}{note}")
    return DataSet(found.name, tuple(checked.pairs))


def _made_up(folder: Path, count: int, seed: int) -> DataSet:
    """Write pictures and masks, and return them."""
    pairs = []
    with writing(f"--output {folder}"):
        for index, (photograph, mask) in enumerate(synthetic_images(count, seed, sides=SIDES), start=1):
            name = f"{index:04d}"
            pair = ImagePair(name, folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png")
            _write(pair.image, photograph)
            _write(pair.mask, mask)
            pairs.append(pair)
    return DataSet("made-up", tuple(pairs))


def _write(path: Path, image: Image.Image) -> None:
    write_atomic(path, partial(save_png, image))
