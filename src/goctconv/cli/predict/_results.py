"""The pictures made of one photograph's map."""

import argparse
import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...saliency import ImageError, cutout, grey_map, overlay, read_image
from ...saliency.data import MAX_PIXELS, ImageLike

MAP, CUTOUT, OVERLAY = "", "_cutout", "_overlay"  # as they end the file's name

# Level 6, the default, takes twice as long, for files a tenth smaller.
_COMPRESS_LEVEL = 3


def wanted_kinds(args: argparse.Namespace) -> list[str]:
    """Return the kinds of pictures that the arguments ask for."""
    return [MAP] + [CUTOUT] * args.cutout + [OVERLAY] * args.overlay


def max_pixels(args: argparse.Namespace) -> int:
    """Return the limit of ``--max-pixels``."""
    return MAX_PIXELS if args.max_pixels is None else int(args.max_pixels)


def make_pictures(
    source: ImageLike,
    probability: NDArray[np.float32],
    size: tuple[int, int],
    args: argparse.Namespace,
    kinds: list[str],
    name: str | None = None,
) -> Iterator[tuple[str, Image.Image]]:
    """Yield the kind and picture of each of ``kinds``.

    The photograph is read again where it is shown: keeping it since it was preprocessed would need memory for two
    batches of large photographs.

    Raises:
        ImageError: The photograph cannot be read any more.
    """
    grey = grey_map(probability, size, threshold=args.threshold)
    if MAP in kinds:
        yield MAP, Image.fromarray(grey)
    if kinds == [MAP]:
        return
    photograph = read_image(source, max_pixels=max_pixels(args), name=name)
    if (photograph.height, photograph.width) != size:
        label = name or (os.fspath(source) if isinstance(source, (str, os.PathLike)) else "image")
        raise ImageError(f"{label!s}: the photograph changed its size meanwhile: run the command again.")
    if CUTOUT in kinds:
        yield CUTOUT, cutout(photograph, grey)
    if OVERLAY in kinds:
        yield OVERLAY, overlay(photograph, grey)


def save_png(picture: Image.Image, stream: BinaryIO) -> None:
    """Write a picture as PNG."""
    picture.save(stream, format="PNG", compress_level=_COMPRESS_LEVEL)
