"""Which pairs can be used, as far as the files' headers tell."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .._images import image_size
from .._open import MAX_PIXELS, ImageError, damaged_data, open_path
from .._pairs import ImagePair
from .._pipeline import default_workers
from ._read import check_same_size


class SkippedPair(NamedTuple):
    """A pair that cannot be used, and why.

    Example:
        >>> from goctconv.saliency import SkippedPair
        >>> SkippedPair("0007", "0007.jpg: the file is empty").name
        '0007'
    """

    name: str
    reason: str


class CheckedPairs(NamedTuple):
    """The pairs that can be used as far as their headers tell, and the others.

    Example:
        >>> from goctconv.saliency import check_pairs
        >>> check_pairs([])
        CheckedPairs(pairs=(), skipped=())
    """

    pairs: tuple[ImagePair, ...]
    skipped: tuple[SkippedPair, ...]


def check_pairs(pairs: Iterable[ImagePair]) -> CheckedPairs:
    """Find the pairs whose files are missing, empty, not images, or of different sizes.

    Only headers are read. Damage further on shows when an image is decoded: data sets and loaders deal with that.

    Args:
        pairs: The pairs.

    Returns:
        The good ones in their order, and the others with what is wrong with them.

    Example:
        >>> from pathlib import Path
        >>> from goctconv.saliency import ImagePair, check_pairs
        >>> print(check_pairs([ImagePair("cat", Path("cat.jpg"), Path("cat.png"))]).skipped[0].reason)
        cat.jpg: there is no such file: check the path.
    """
    pairs = tuple(pairs)
    with ThreadPoolExecutor(default_workers(), thread_name_prefix="goctconv") as executor:
        problems = list(executor.map(_problem, pairs))
    return CheckedPairs(
        tuple(pair for pair, problem in zip(pairs, problems, strict=True) if problem is None),
        tuple(SkippedPair(pair.name, text) for pair, text in zip(pairs, problems, strict=True) if text is not None),
    )


def _problem(pair: ImagePair) -> str | None:
    sizes = []
    try:
        for path in (pair.image, pair.mask):
            with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
                height, width = image_size(opened)
                sizes.append((width, height))
        check_same_size(pair, *sizes)
    except ImageError as error:
        return str(error)
    return None
