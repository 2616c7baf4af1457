"""Several data sets joined, and pairs split into training and validation."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..._checks import ArgumentError, ArgumentTypeError
from ._layouts import find_pairs
from ._pairs import DataSet, DataSetError, ImagePair


class Split(NamedTuple):
    """The pairs to train with, and those to validate with."""

    train: tuple[ImagePair, ...]
    validation: tuple[ImagePair, ...]


def join_pairs(*sources: str | os.PathLike[str] | DataSet) -> DataSet:
    """Join data sets to one.

    Where there are several, names begin with that of their data set, such as ``ECSSD/0001``.

    Args:
        sources: Folders or lists in the layouts that `find_pairs` knows, or what it returned.

    Returns:
        A data set as `find_pairs` returns it, named after all of them, such as ``ECSSD+PASCAL``.

    Raises:
        DataSetError: A source is not found, two have the same name, or share a photograph; or there are none.

    Example:
        >>> from pathlib import Path
        >>> from goctconv.saliency import join_pairs
        >>> from goctconv.saliency.data import DataSet, ImagePair
        >>> birds = DataSet("Birds", (ImagePair("robin", Path("b/robin.jpg"), Path("b/robin.png")),))
        >>> cats = DataSet("Cats", (ImagePair("tom", Path("c/tom.jpg"), Path("c/tom.png")),))
        >>> [pair.name for pair in join_pairs(birds, cats)]
        ['Birds/robin', 'Cats/tom']
    """
    if not sources:
        raise DataSetError("there is no source: pass at least one folder or list of photographs and masks")
    found = [source if isinstance(source, DataSet) else find_pairs(source) for source in sources]
    if len(found) == 1:
        return found[0]
    names = [data.name for data in found]
    if len(set(names)) < len(names):
        names = [
            data.name if isinstance(source, DataSet) else os.fspath(source)
            for source, data in zip(sources, found, strict=True)
        ]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataSetError(
            f"{repeated[0]} is given twice: leave one out, or rename one with dataclasses.replace(data, name=...)"
        )
    pairs = [
        pair._replace(name=f"{name}/{pair.name}") for name, data in zip(names, found, strict=True) for pair in data
    ]
    _refuse_shared(pairs)
    return DataSet(
        "+".join(names),
        tuple(pairs),
        tuple(path for data in found for path in data.lone_images),
        tuple(path for data in found for path in data.lone_masks),
        tuple(path for data in found for path in data.missing),
    )


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
            raise DataSetError(
                f"{pair.image} and {following.image} are both called {pair.name}: join data sets with join_pairs(...), "
                "which makes names unique"
            )
    count = _validation_count(validation, len(ordered))
    drawn = {pair.name for pair in sorted(ordered, key=lambda pair: _digest(seed, pair.name))[:count]}
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


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode(errors="surrogateescape")).digest()


def _refuse_shared(pairs: Iterable[ImagePair]) -> None:
    seen: dict[str, str] = {}
    for pair in pairs:
        path = os.path.abspath(pair.image)  # noqa: PTH100  (Path.resolve reads the disk for every file)
        if path in seen:
            raise DataSetError(f"{pair.image} is {seen[path]} and {pair.name}: leave one of the two sources out")
        seen[path] = pair.name
