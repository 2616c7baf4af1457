"""Which photographs the arguments mean."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ._command import CommandError

IMAGE_SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
    )
)


class Photograph(NamedTuple):
    """A file to read, and where its results go: a path below the output folder, without suffix."""

    path: Path
    stem: Path


def find_photographs(inputs: Sequence[str], output: Path) -> list[Photograph]:
    """Return the photographs that files, folders and patterns name, each file once.

    Of a folder, the files with an image's suffix are taken, in sorted order; hidden files and folders and the output
    folder are not.

    Raises:
        CommandError: An argument does not exist, or names no image; or the output folder is one of the inputs.
    """
    found: dict[str, Photograph] = {}
    parents: dict[Path, str] = {}
    for argument in inputs:
        for photograph in _expand(argument, output):
            found.setdefault(real_path(photograph.path, parents), photograph)
    return list(found.values())


def real_path(path: Path, parents: dict[Path, str]) -> str:
    """Return the path without links, resolving each folder only once."""
    if path.is_symlink():
        return os.path.realpath(path)
    if path.parent not in parents:
        parents[path.parent] = os.path.realpath(path.parent)
    return f"{parents[path.parent]}{os.sep}{path.name}"


def _expand(argument: str, output: Path) -> Iterator[Photograph]:
    path = Path(argument)
    if path.is_dir():
        yield from _walk(path, output)
    elif path.exists():
        yield Photograph(path, Path(path.stem))
    elif glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        if not matches:
            raise CommandError(f"{argument}: no file matches this pattern: check it, and quote it for the shell.")
        for match in matches:
            yield from _expand(match, output)
    else:
        raise CommandError(f"{argument}: there is no such file or folder: check the path.")


def _walk(root: Path, output: Path) -> Iterator[Photograph]:
    output_path = os.path.realpath(output)
    if os.path.realpath(root) == output_path:
        raise CommandError(
            f"{root} is the folder to read and the output folder too, so the next run would take maps for photographs: "
            f"give another folder, like -o {root / 'maps'}."
        )
    count = 0
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(
            name
            for name in _visible(subfolders)
            if os.path.realpath(os.path.join(folder, name)) != output_path  # noqa: PTH118  (100,000 times)
        )
        for name in sorted(_visible(names)):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122  (a Path each is three times slower)
            if suffix.lower() in IMAGE_SUFFIXES:
                count += 1
                here = Path(folder)
                yield Photograph(here / name, here.relative_to(root) / stem)
    if not count:
        raise CommandError(
            f"{root}: there is no image in this folder or its subfolders: expected files that end in .jpg, .png, "
            ".webp, .tif or the like."
        )


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith("."))
