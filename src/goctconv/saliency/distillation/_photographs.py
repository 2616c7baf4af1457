"""Photographs without masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from .._datasets import find_pairs
from .._pairs import DataSet, DataSetError, ImagePair, files_below

Photographs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[str | os.PathLike[str]]"
"""A folder of photographs, their files, or a data set, whose masks are not looked at."""


def find_photographs(source: Photographs) -> DataSet:
    """Find photographs to distil on, which need no masks.

    Args:
        source: A folder, whose subfolders are searched too; files; or a data set. Of a folder or list in a layout of
            `find_pairs` the photographs alone are taken.

    Returns:
        Pairs in which the photograph stands for a mask too: there is none.

    Raises:
        DataSetError: There are none, or one is given twice.

    Example:
        >>> import pathlib, tempfile
        >>> from goctconv.saliency import find_photographs
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat.jpg", "dog.png", "notes.txt"):
        ...     (folder / name).touch()
        >>> [pair.name for pair in find_photographs(folder)]
        ['cat.jpg', 'dog.png']
    """
    if isinstance(source, DataSet):
        return DataSet(source.name, tuple(_alone(pair.name, pair.image) for pair in source))
    if isinstance(source, str | os.PathLike):
        return _below(Path(source))
    files = [Path(file) for file in source]
    repeated = {str(file) for file in files if files.count(file) > 1} if len(set(files)) < len(files) else set()
    if repeated or not files:
        raise DataSetError(
            f"{min(repeated)} is given twice." if repeated else "there is no photograph: pass one or more."
        )
    return DataSet("photographs", tuple(_alone(str(file), file) for file in files))


def _below(path: Path) -> DataSet:
    try:
        pairs = find_pairs(path)
    except DataSetError:
        if not path.is_dir():
            raise
    else:
        lone = [_alone(str(image), image) for image in pairs.lone_images]
        return DataSet(pairs.name, (*(_alone(pair.name, pair.image) for pair in pairs), *lone))
    files = files_below(path)
    if not files:
        raise DataSetError(f"{path}: there is no image in this folder or its subfolders.")
    return DataSet(path.resolve().name, tuple(_alone(file.relative_to(path).as_posix(), file) for file in files))


def _alone(name: str, image: Path) -> ImagePair:
    return ImagePair(name, image, image)
