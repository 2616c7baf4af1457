"""``goctconv predict``: the photographs to read, and the files to write, checked before any is written."""

from __future__ import annotations

import glob
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from ..saliency.data import describe_unread, is_photograph, is_read
from ._command import CommandError
from ._output import shorten


class Photograph(NamedTuple):
    """A file to read, and where its results go: a path below the output folder, without suffix."""

    path: Path
    stem: Path


def find_photographs(
    inputs: Sequence[str], output: Path, notes: list[str] | None = None
) -> tuple[list[Photograph], list[str]]:
    """Return the photographs that files, folders and patterns name, each file once, and what is wrong with the rest.

    Drawings and films among them are no photographs that fail; a line about each kind is appended to ``notes``.

    Of a folder, the files with an image's suffix are taken, in sorted order; hidden files and folders and the output
    folder are not, nor is what links to folders lead to.
    """
    search = _Search(output)
    for argument in inputs:
        search.add(argument)
    if not search.found:
        raise CommandError(*search.problems, *search.notes)
    if notes is not None:
        notes += search.notes
    return list(search.found.values()), search.problems


def real_path(path: Path, parents: dict[Path, str]) -> str:
    """Return the path without links, resolving each folder only once."""
    if path.is_symlink():
        return os.path.realpath(path)
    if path.parent not in parents:
        parents[path.parent] = os.path.realpath(path.parent)
    return f"{parents[path.parent]}{os.sep}{path.name}"


class Plan(NamedTuple):
    """Where results go, and what is said of those that go elsewhere or nowhere."""

    outputs: dict[Path, dict[str, Path]]  # by the path of each photograph, by kind
    renamed: list[str]  # photographs whose results keep the suffix, as they would be written to one file
    problems: list[str]  # photographs that have no file of their own to be written to


def plan_outputs(
    photographs: Sequence[Photograph],
    output: Path,
    kinds: Sequence[str],
    *,
    keep_suffix: bool = False,
    ending: str = ".png",
) -> Plan:
    """Return where each kind of result ("", "_cutout", "_overlay") of each photograph goes.

    Results of ``a.jpg`` and ``a.png`` would go to one file, as would the cut-out of ``a.jpg`` and the map of
    ``a_cutout.jpg``. Such photographs keep their suffix: ``a.jpg.png``, as all do with ``keep_suffix``. Photographs
    that still have no file of their own, such as those of one name from two folders, or whose results would replace a
    photograph, are left out.
    """
    if output.exists() and not output.is_dir():
        raise CommandError(f"-o {output}: this is a file: give a folder")
    renamed: list[tuple[Path, ...]] = []
    keeping = {path for path, _ in photographs} if keep_suffix else set()
    planner = _Planner(dict(photographs), output, kinds, keeping, ending)
    while True:
        clashes = planner.clashes()
        new = [paths for paths in clashes if not planner.keeping.issuperset(paths)]
        if not new:
            break
        renamed += new
        planner.keeping |= {path for paths in new for path in paths}
    problems = [_clash(target, paths) for paths, target in clashes.items()]
    dropped = {path for paths in clashes for path in paths}
    for path, target, photograph in planner.overwriting():
        if path not in dropped:
            cure = "give another folder with -o" + ("" if keep_suffix else ", or add --keep-suffix")
            problems.append(f"{target}, a result of {path}, would overwrite the photograph {photograph}: {cure}")
            dropped.add(path)
    outputs = {path: planner.targets(path) for path in planner.stems if path not in dropped}
    if not outputs:
        raise CommandError(*problems)
    largest = [paths for paths in renamed if not any(set(paths) < set(others) for others in renamed)]
    told = [shorten(paths, " and ", 5) for paths in largest if dropped.isdisjoint(paths)]
    return Plan(outputs, told, problems)


class _Planner:
    def __init__(
        self, stems: dict[Path, Path], output: Path, kinds: Sequence[str], keeping: set[Path], ending: str
    ) -> None:
        self.stems, self.output, self.kinds, self.keeping, self.ending = stems, output, kinds, keeping, ending
        self._parents: dict[Path, str] = {}

    def targets(self, path: Path) -> dict[str, Path]:
        stem = self.stems[path]
        suffix = path.suffix if path in self.keeping else ""
        return {kind: self.output / stem.with_name(f"{stem.name}{suffix}{kind}{self.ending}") for kind in self.kinds}

    def clashes(self) -> dict[tuple[Path, ...], Path]:
        """Return the photographs that would be written to one file, and a file of them."""
        writers: dict[str, list[Path]] = {}
        names: dict[str, Path] = {}
        for path in self.stems:
            for target in self.targets(path).values():
                key = _key(real_path(target, self._parents))
                names.setdefault(key, target)
                writers.setdefault(key, []).append(path)
        found: dict[tuple[Path, ...], Path] = {}
        for key, paths in writers.items():
            if len(paths) > 1:
                found.setdefault(tuple(paths), names[key])
        return found

    def overwriting(self) -> Iterator[tuple[Path, Path, Path]]:
        """Yield photographs with a result that would replace a photograph, and both files."""
        inputs = {_key(real_path(path, self._parents)): path for path in self.stems}
        for path in self.stems:
            for target in self.targets(path).values():
                if (key := _key(real_path(target, self._parents))) in inputs:
                    yield path, target, inputs[key]


def _clash(target: Path, paths: Sequence[Path]) -> str:
    same = len({path.parent for path in paths}) == 1
    cure = "rename one" if same else "rename one, or pass the folder that holds both (subfolders are kept)"
    many = "both" if len(paths) == 2 else "all"
    return (
        f"{shorten(paths, ' and ', 5)} would {many} be written to {target}, so none was: run them with different -o, "
        f"or {cure}"
    )


def _key(path: str) -> str:
    """Return one key for the names that a file system takes for the same file."""
    return os.path.normcase(path).casefold() if platform.system() in {"Windows", "Darwin"} else path


class _Search:
    """The photographs found so far, by their real paths, and a line for each thing that is not one."""

    def __init__(self, output: Path) -> None:
        self.found: dict[str, Photograph] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._output = os.path.realpath(output)
        self._parents: dict[Path, str] = {}

    def add(self, argument: str) -> None:
        path = Path(argument)
        if glob.has_magic(argument) and not os.path.lexists(path):
            self._add_pattern(argument)
        else:
            self._add_path(path)

    def _add_pattern(self, pattern: str) -> None:
        paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207  (takes any pattern)
        root = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
        if self._output.startswith(os.path.join(os.path.realpath(root), "")):  # noqa: PTH118
            # The output folder is among what the pattern looks through: it matches maps of an earlier run.
            paths = [path for path in paths if not self._is_output(path)]
        if not paths:
            self.problems.append(f"{pattern}: no file matches this pattern: check it, and quote it for the shell")
        for path in paths:
            self._add_path(path, Path(path.name))

    def _is_output(self, path: Path) -> bool:
        return os.path.join(real_path(path, self._parents), "").startswith(os.path.join(self._output, ""))  # noqa: PTH118

    def _add_path(self, path: Path, below: Path = Path()) -> None:
        """Add a file or folder; the results of a folder's files go below ``below``."""
        try:
            if path.is_dir():
                self._add_folder(path, below)
            elif path.is_file():
                self._add_file(path, Path(path.stem))
            elif path.exists():
                self.problems.append(
                    f"{path}: this is a pipe or device, not a file: copy it to a file, or pass it to -"
                )
            else:
                self.problems.append(f"{path}: there is no such file or folder: check the path")
        except OSError as error:  # such as a folder on the way that may not be entered
            self.problems.append(f"{path}: this cannot be read ({error.strerror or error})")

    def _add_folder(self, root: Path, below: Path) -> None:
        if os.path.realpath(root) == self._output:
            self.problems.append(
                f"{root} is the folder to read and the output folder too, so the next run would take maps for "
                f"photographs: give another folder, like -o {root / 'maps'}"
            )
            return
        problems, count, unread = len(self.problems), 0, list[str]()
        for folder, subfolders, names in os.walk(root, onerror=self._add_unreadable):
            subfolders[:] = sorted(
                name
                for name in _visible(subfolders)
                if os.path.realpath(os.path.join(folder, name)) != self._output  # noqa: PTH118  (100,000 times)
            )
            for name in sorted(_visible(names)):
                stem, suffix = os.path.splitext(name)  # noqa: PTH122  (a Path each is three times slower)
                if not is_read(suffix):
                    unread.append(name)
                else:
                    count += 1
                    here = Path(folder)
                    path = here / name
                    if path.is_file() or not path.exists():  # broken links are named on reading
                        self._add_file(path, below / here.relative_to(root) / stem)
                    else:
                        self.problems.append(f"{path}: this is a pipe or device, not a file: it was not read")
        for suffix, text in describe_unread(unread).items():
            (self.problems if is_photograph(suffix) else self.notes).append(f"{root}: {text}")
        if not count and len(self.problems) == problems:
            self.problems.append(
                f"{root}: there is no image in this folder or its subfolders: expected files that end in .jpg, .png, "
                ".webp, .tif or the like"
            )

    def _add_file(self, path: Path, stem: Path) -> None:
        self.found.setdefault(real_path(path, self._parents), Photograph(path, stem))

    def _add_unreadable(self, error: OSError) -> None:
        self.problems.append(f"{error.filename}: this folder cannot be read ({error.strerror}): check its permissions")


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith("."))
