"""Photographs and their masks, paired by name or by a list."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class DataSetError(ValueError):
    """A data set cannot be read; the message names it, what was looked for and the cure."""


class ImagePair(NamedTuple):
    """A photograph and its mask; where there is none, the photograph stands for it, and counts as an empty mask."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class DataSet:
    """The pairs of a data set, and the files that have no partner.

    Args:
        name: The folder's or the list's name.
        pairs: Sorted by name; in a list's own order.
        lone_images: Photographs (or maps) without a mask.
        lone_masks: Masks without a photograph (or map).
        missing: Files that a list names and that do not exist.

    Example:
        >>> from goctconv.saliency.data import DataSet
        >>> len(DataSet("empty", ()))
        0
    """

    name: str
    pairs: tuple[ImagePair, ...]
    lone_images: tuple[Path, ...] = ()
    lone_masks: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[ImagePair]:
        return iter(self.pairs)


def pair_folders(images: Path, masks: Path, name: str) -> DataSet:
    """Pair the files of two folders (and their subfolders) by their names without suffix."""
    photographs, truths = name_files(images, files_below(images)), name_files(masks, files_below(masks))
    if not photographs.keys() & truths.keys():
        raise DataSetError(
            f"no file of {images} (like {min(photographs)}) has the name of one of {masks} (like {min(truths)}): both "
            "need the same names, but for the suffix"
        )
    return match(name, photographs, truths)


def match(name: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> DataSet:
    """Pair files that have the same key."""
    return DataSet(
        name,
        tuple(ImagePair(key, images[key], masks[key]) for key in sorted(images.keys() & masks.keys())),
        tuple(images[key] for key in sorted(images.keys() - masks.keys())),
        tuple(masks[key] for key in sorted(masks.keys() - images.keys())),
    )


def files_below(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted, without hidden ones, pipes and devices."""
    if not folder.is_dir():
        raise DataSetError(f"{folder}: there is no such folder: check the path")
    found = []
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(here, name) for name in sorted(names) if not name.startswith(".")]
    images = [path for path in found if path.suffix.lower() in _SUFFIXES]
    return [path for path in images if path.is_file() or not path.exists()]  # broken links are named on reading


def name_files(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by their path below the folder, without suffix."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataSetError(
                f"{found[name]} and {path} have the same name but for the suffix, so it is open which is meant: "
                "remove one"
            )
        found[name] = path
    if not found:
        raise DataSetError(f"{folder}: there is no image in this folder or its subfolders")
    return found


def read_list(path: Path) -> DataSet:
    """Read a list: a photograph and its mask on each line, relative to the list; blank lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetError(f"{path}: the list cannot be read ({error}): expected text, one pair per line") from error
    pairs = [_read_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise DataSetError(f"{path}: {pair.name} stands on two lines: each photograph counts once, so remove one")
        seen.add(pair.name)
    missing = {file for pair in pairs for file in (pair.image, pair.mask) if not file.is_file()}
    complete = tuple(pair for pair in pairs if not missing & {pair.image, pair.mask})
    if not pairs:
        raise DataSetError(f"{path}: the list is empty: expected a photograph and its mask on each line")
    if not complete:
        raise DataSetError(
            f"{path}: none of its pairs exist, such as {pairs[0].image} and {pairs[0].mask}: names are relative to "
            "the list's folder"
        )
    return DataSet(path.stem, complete, missing=tuple(sorted(missing)))


def _read_line(path: Path, number: int, line: str) -> ImagePair:
    fields = [field.strip() for field in line.strip().split("\t")] if "\t" in line.strip() else line.split()
    if len(fields) != 2:
        raise DataSetError(
            f"{path}, line {number}: {len(fields)} fields, expected 2: a photograph and its mask, separated by a "
            "space, or by a tab where names hold spaces"
        )
    image, mask = fields
    return ImagePair(Path(image).with_suffix("").as_posix(), path.parent / image, path.parent / mask)
