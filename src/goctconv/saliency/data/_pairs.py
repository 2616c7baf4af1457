"""Photographs and their masks, paired by name or by a list, and split into training and validation."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ..._checks import ArgumentError, ArgumentTypeError
from ._formats import describe_unread, is_read
from ._masks import MaskRule


class DataSetError(ValueError):
    """A data set cannot be read; the message names it, what was looked for and the cure."""


class ImagePair(NamedTuple):
    """A photograph and its mask; where there is none, the photograph stands for it, and counts as an empty mask."""

    name: str
    image: Path
    mask: Path
    source: str = ""  # the data set that it comes from
    rule: MaskRule | None = None  # how the mask is read; None: not decided yet


class TaughtPair(ImagePair):
    """A photograph and a teacher's map of it as the mask, which may have another size."""

    __slots__ = ()


class SkippedPair(NamedTuple):
    """A pair that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class DataSet:
    """The pairs of a data set, and the files that have no partner."""

    name: str  # of the folder or the list
    pairs: tuple[ImagePair, ...]  # sorted by name; in a list's own order
    lone_images: tuple[Path, ...] = ()  # photographs (or maps) without a mask
    lone_masks: tuple[Path, ...] = ()  # masks without a photograph (or map)
    missing: tuple[Path, ...] = ()  # files that a list names and that do not exist

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[ImagePair]:
        return iter(self.pairs)


def pair_folders(images: Path, masks: Path, name: str) -> DataSet:
    """Pair the files of two folders (and their subfolders) by their names without suffix."""
    photographs, truths = name_files(images, files_below(images)), name_files(masks, files_below(masks))
    if not photographs.keys() & truths.keys():
        problem = f"no file of {images} (like {min(photographs)}) has the name of one of {masks} (like {min(truths)})"
        raise DataSetError(f"{problem}: both need the same names, but for the suffix")
    return match(name, photographs, truths)


def match(name: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> DataSet:
    """Pair files that have the same key."""
    return DataSet(
        name,
        tuple(ImagePair(key, images[key], masks[key], name) for key in sorted(images.keys() & masks.keys())),
        tuple(images[key] for key in sorted(images.keys() - masks.keys())),
        tuple(masks[key] for key in sorted(masks.keys() - images.keys())),
    )


def files_below(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted, without hidden ones, pipes and devices.

    A warning counts the pictures of each kind that is not read, and says what to do about them.
    """
    if not folder.is_dir():
        raise DataSetError(f"{folder}: there is no such folder: check the path")
    found: list[Path] = []
    others: list[str] = []
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        paths = [Path(here, name) for name in sorted(names) if not name.startswith(".")]
        found += [path for path in paths if is_read(path.suffix)]
        others += [path.name for path in paths if not is_read(path.suffix)]
    warn_of_unread(folder, others)
    return [path for path in found if path.is_file() or not path.exists()]  # broken links are named on reading


def warn_of_unread(folder: Path, names: Iterable[str]) -> None:
    """Warn of pictures that are not read, once for each kind, with their number and a cure."""
    for text in describe_unread(names).values():
        warnings.warn(f"{folder}: {text}", stacklevel=3)


def name_files(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by their path below the folder, without suffix; of equal names, none is returned, with a warning."""
    named: dict[str, list[Path]] = {}
    for path in paths:
        named.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    doubled = [" and ".join(map(str, same)) for same in named.values() if len(same) > 1]
    if doubled:
        listed = "; ".join(doubled[:5]) + (f"; and {len(doubled) - 5} more" if len(doubled) > 5 else "")
        problem = f"{listed} have the same name but for the suffix, so it is open which is meant"
        if len(doubled) == len(named):
            raise DataSetError(f"{problem}: remove one")
        warnings.warn(f"{problem}: they are left out; remove or rename one", stacklevel=2)
    if not named:
        raise DataSetError(f"{folder}: there is no image in this folder or its subfolders")
    return {name: same[0] for name, same in named.items() if len(same) == 1}


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
        problem = f"none of its pairs exist, such as {pairs[0].image} and {pairs[0].mask}"
        raise DataSetError(f"{path}: {problem}: names are relative to the list's folder")
    complete = tuple(pair._replace(source=path.stem) for pair in complete)
    return DataSet(path.stem, complete, missing=tuple(sorted(missing)))


def _read_line(path: Path, number: int, line: str) -> ImagePair:
    fields = [field.strip() for field in line.strip().split("\t")] if "\t" in line.strip() else line.split()
    if len(fields) != 2:
        expected = "a photograph and its mask, separated by a space, or by a tab where names hold spaces"
        raise DataSetError(f"{path}, line {number}: {len(fields)} fields, expected 2: {expected}")
    image, mask = fields
    return ImagePair(Path(image).with_suffix("").as_posix(), path.parent / image, path.parent / mask)


class Split(NamedTuple):
    """The pairs to train with, and those to validate with."""

    train: tuple[ImagePair, ...]
    validation: tuple[ImagePair, ...]


def split_pairs(pairs: DataSet | Sequence[ImagePair], validation: float = 0.1, *, seed: int = 0) -> Split:
    """Split pairs into those to train with and those to validate with.

    Which ones are taken depends only on their names and the seed, not on where or in which order they lie. A few
    pairs more or less change the other pairs' sides little.

    Args:
        pairs: The pairs.
        validation: How many to validate with: a share (a float below 1) or a count (an integer).
        seed: Another seed, another split.

    Returns:
        Both, sorted by name.

    Raises:
        DataSetError: Two pairs have the same name.
        ArgumentError: ``validation`` is no number, negative, a share of 1 or more, or leaves no pair to train with.

    Example:
        >>> from pathlib import Path
        >>> from goctconv.saliency.data import ImagePair
        >>> from goctconv.saliency import split_pairs
        >>> pairs = [ImagePair(name, Path(f"{name}.jpg"), Path(f"{name}.png")) for name in "abcde"]
        >>> train, validation = split_pairs(pairs, 2, seed=1)
        >>> [pair.name for pair in train], [pair.name for pair in validation]
        (['a', 'c', 'e'], ['b', 'd'])
    """
    ordered = sorted(pairs, key=lambda pair: pair.name)
    for pair, following in pairwise(ordered):
        if pair.name == following.name:
            problem = f"{pair.image} and {following.image} are both called {pair.name}"
            raise DataSetError(f"{problem}: join data sets with join_pairs(...), which makes names unique")
    count = _validation_count(validation, len(ordered))
    by_digest = sorted(
        ordered, key=lambda pair: hashlib.sha256(f"{seed}\n{pair.name}".encode(errors="surrogateescape")).digest()
    )
    drawn = {pair.name for pair in by_digest[:count]}
    return Split(
        tuple(pair for pair in ordered if pair.name not in drawn),
        tuple(pair for pair in ordered if pair.name in drawn),
    )


def _validation_count(validation: float, total: int) -> int:
    if isinstance(validation, bool) or not isinstance(validation, (int, float)):
        raise ArgumentTypeError("validation", validation, "a share such as 0.1 or a count such as 100")
    is_count = isinstance(validation, int)
    if not validation >= 0 or (not is_count and validation >= 1):
        raise ArgumentError("validation", validation, "a share from 0 to below 1, or an integer for a count")
    count = int(validation) if is_count else round(validation * total)
    if validation and total and not 0 < count < total:
        problem = f"takes {count} of {total} pairs and leaves {total - count} to train with"
        raise ArgumentError("validation", validation, "at least one for both", problem=problem)
    return count
