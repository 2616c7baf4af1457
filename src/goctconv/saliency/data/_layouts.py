"""The layouts of data sets: photographs with masks, several of these joined, and photographs alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TypeAlias

from ._formats import is_read
from ._masks import MaskRule
from ._pairs import (
    DataSet,
    DataSetError,
    ImagePair,
    TaughtPair,
    files_below,
    match,
    name_files,
    pair_folders,
    read_list,
    warn_of_unread,
)

_IMAGE_FOLDERS = ("images", "image", "imgs")
_MASK_FOLDERS = ("gt", "masks", "mask", "ground_truth", "ground_truth_mask")

LAYOUTS = """\
  images/ + GT/ or images/ + masks/       files of the same names
  Imgs/                                   photographs (.jpg) and masks (.png) of the same names, side by side
  DUTS-TE-Image/ + DUTS-TE-Mask/          and any NAME-Image/ + NAME-Mask/
  NAME.lst                                a photograph and its mask on each line, relative to the list"""


def find_pairs(
    source: str | os.PathLike[str] | DataSet,
    *,
    masks: str | os.PathLike[str] | None = None,
    maps: str | os.PathLike[str] | None = None,
) -> DataSet:
    """Find the photographs and masks of a data set.

    Known layouts, in any upper and lower case: ``images`` + ``GT`` or ``masks``; ``Imgs`` with photographs (.jpg) and
    masks (.png) side by side; ``DUTS-TE-Image`` + ``DUTS-TE-Mask`` and the like; a list (.lst) with a photograph and
    its mask on each line. A folder of photographs whose masks lie beside it is found too.

    Args:
        source: The folder that holds these, or a list; or what this function returned, to find its ``maps``.
        masks: The folder of the masks, if ``source`` is the folder of the photographs alone.
        maps: A folder of maps with the names of the masks, which stand in the pairs in place of the photographs.

    Returns:
        A data set, whose length is the number of its pairs, and which yields them in a loop. Each pair has a ``name``,
        the path ``image`` of the photograph and the path ``mask``. The data set has the attributes

        - ``name``: the name of the folder or the list;
        - ``pairs``: the pairs as a tuple, sorted by name, or in a list's own order;
        - ``lone_images``: photographs without a mask;
        - ``lone_masks``: masks without a photograph;
        - ``missing``: files that a list names and that do not exist.

    Raises:
        DataSetError: Nothing of the kind is there, or several things are; a list is malformed; names are ambiguous.

    Example:
        >>> import pathlib, tempfile
        >>> from goctconv.saliency import find_pairs
        >>> folder = pathlib.Path(tempfile.mkdtemp(), "Birds")
        >>> for file in ("images/robin.jpg", "GT/robin.png"):
        ...     (folder / file).parent.mkdir(parents=True)
        ...     (folder / file).touch()
        >>> find_pairs(folder).name, [pair.name for pair in find_pairs(folder)]
        ('Birds', ['robin'])
    """
    if maps is not None:
        data = source if isinstance(source, DataSet) else find_pairs(source, masks=masks)
        return pair_maps(data, Path(maps))
    if isinstance(source, DataSet):
        return source
    if masks is not None:
        return pair_folders(Path(source), Path(masks), data_set_name(Path(masks)))
    return _find_pairs(Path(source))


def _find_pairs(path: Path) -> DataSet:
    if path.is_file():
        return read_list(path)
    if not path.is_dir():
        raise DataSetError(f"{path}: there is no such folder or list: check the path")
    found = _find_folders(path)
    if len(found) > 1:
        options = ", ".join(str(images) for images, _ in found)
        raise DataSetError(f"{path}: this holds {len(found)} data sets: pass the one that you mean: {options}")
    if found:
        return pair_folders(*found[0], name=data_set_name(path))
    side_by_side = _find_side_by_side(path)
    if side_by_side:
        return side_by_side
    lists = sorted(path.glob("*.lst"))
    if len(lists) == 1:
        return read_list(lists[0])
    content = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
    many = f" (there are {len(lists)} lists: pass one)" if lists else ""
    raise DataSetError(f"{path}: no known layout{many}; it holds {content}. Tried:\n{LAYOUTS}")


def _find_folders(path: Path) -> list[tuple[Path, Path]]:
    """Return (photographs, masks) of each pair of folders in the folder; or of the folder itself and one beside it."""
    here = _subfolders(path)
    images = next((here[name] for name in _IMAGE_FOLDERS if name in here), None)
    masks = next((here[name] for name in _MASK_FOLDERS if name in here), None)
    if images and masks:
        return [(images, masks)]
    mask_of = {name: f"{name.removesuffix('-image')}-mask" for name in sorted(here) if name.endswith("-image")}
    found = [(here[name], here[mask]) for name, mask in mask_of.items() if mask in here]
    if found:
        return found
    name, beside = path.resolve().name.lower(), _subfolders(path.resolve().parent)
    wanted = _MASK_FOLDERS if name in _IMAGE_FOLDERS else (f"{name.removesuffix('-image')}-mask",)
    return [(path, beside[other]) for other in wanted if other in beside and other != name][:1]


def _subfolders(path: Path) -> dict[str, Path]:
    return {child.name.lower(): child for child in sorted(path.iterdir()) if child.is_dir()}


def _find_side_by_side(path: Path) -> DataSet | None:
    """Return the pairs of a folder that holds photographs and masks both, or has a subfolder ``Imgs`` that does."""
    folder = _subfolders(path).get("imgs", path)
    files = [child for child in sorted(folder.iterdir()) if child.is_file() and not child.name.startswith(".")]
    photographs = [file for file in files if file.suffix.lower() in {".jpeg", ".jpg"}]
    masks = [file for file in files if file.suffix.lower() == ".png"]
    if not {file.stem for file in photographs} & {file.stem for file in masks}:
        return None
    warn_of_unread(folder, [file.name for file in files if not is_read(file.suffix)])
    return match(data_set_name(path), name_files(folder, photographs), name_files(folder, masks))


def data_set_name(path: Path) -> str:
    """Return a data set's name: that of its folder, or of the one above where the folder's says nothing."""
    resolved = path.resolve()
    meaningless = resolved.name.lower() in {*_IMAGE_FOLDERS, *_MASK_FOLDERS}
    name = resolved.parent.name if meaningless else resolved.name
    for ending in ("-image", "-mask"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


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
        >>> from pathlib import Path, PurePath
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
        names = [source.name if isinstance(source, DataSet) else os.fspath(source) for source in sources]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        cure = "leave one out, or rename one with dataclasses.replace(data, name=...)"
        raise DataSetError(f"{repeated[0]} is given twice: {cure}")
    pairs = [
        pair._replace(name=f"{name}/{pair.name}", source=name)
        for name, data in zip(names, found, strict=True)
        for pair in data
    ]
    _refuse_shared(pairs)
    rest = (
        [file for data in found for file in getattr(data, kind)] for kind in ("lone_images", "lone_masks", "missing")
    )
    return DataSet("+".join(names), tuple(pairs), *map(tuple, rest))


def _refuse_shared(pairs: Iterable[ImagePair]) -> None:
    seen: dict[str, str] = {}
    for pair in pairs:
        path = os.path.abspath(pair.image)  # noqa: PTH100  (Path.resolve reads the disk for every file)
        if path in seen:
            raise DataSetError(f"{pair.image} is {seen[path]} and {pair.name}: leave one of the two sources out")
        seen[path] = pair.name


Photographs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[str | os.PathLike[str]]"
"""A folder of photographs, their files, or a data set, whose masks are not looked at."""


def find_images(*sources: Photographs) -> DataSet:
    """Find photographs to distil on, which need no masks.

    Args:
        sources: A folder, whose subfolders are searched too; files; or a data set. Of a folder or list in a layout of
            `find_pairs` the photographs alone are taken. Of several sources, names begin with those of their folders.

    Returns:
        A data set as `find_pairs` returns it, of pairs in which the photograph stands for the missing mask too.

    Raises:
        DataSetError: There are none, or one is given twice.

    Example:
        >>> import pathlib, tempfile
        >>> from goctconv.saliency import find_images
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat.jpg", "dog.png", "notes.txt"):
        ...     (folder / name).touch()
        >>> [pair.name for pair in find_images(folder)]
        ['cat.jpg', 'dog.png']
    """
    if len(sources) == 1:
        return _images_of(sources[0])
    found = [_images_of(source) for source in sources]
    pairs = tuple(pair._replace(name=f"{data.name}/{pair.name}") for data in found for pair in data)
    return DataSet("photographs", pairs)


def _images_of(source: Photographs) -> DataSet:
    if isinstance(source, DataSet):
        return _alone(source.name, ((pair.name, pair.image) for pair in source))
    if isinstance(source, str | os.PathLike):
        return _below(Path(source))
    files = [Path(file) for file in source]
    if not files:
        raise DataSetError("there is no photograph: pass one or more")
    repeated = [file for file, count in Counter(files).items() if count > 1]
    if repeated:
        raise DataSetError(f"{min(repeated)} is given twice")
    return _alone("photographs", ((str(file), file) for file in files))


def _below(path: Path) -> DataSet:
    try:
        data = find_pairs(path)
    except DataSetError:
        if not path.is_dir():
            raise
    else:
        lone = [(str(image), image) for image in data.lone_images]
        return _alone(data.name, [*((pair.name, pair.image) for pair in data), *lone])
    files = files_below(path)
    if not files:
        raise DataSetError(f"{path}: there is no image in this folder or its subfolders")
    return _alone(path.resolve().name, ((file.relative_to(path).as_posix(), file) for file in files))


def _alone(name: str, images: Iterable[tuple[str, Path]]) -> DataSet:
    """Return named photographs as pairs without masks."""
    return DataSet(name, tuple(ImagePair(own, image, image, rule=MaskRule()) for own, image in images))


def pair_maps(data: DataSet, folder: Path) -> DataSet:
    """Pair the masks of a data set with maps in a folder that have their names."""
    masks = {pair.name: pair.mask for pair in data.pairs} | {mask.stem: mask for mask in data.lone_masks}
    paired = match(data.name, _name_maps(folder, masks), masks)
    if not paired.pairs:
        problem = f"no map in {folder} has the name of a mask of {data.name}, like {min(masks)}.png"
        raise DataSetError(f"{problem}: names must agree")
    return replace(paired, missing=data.missing)


def find_taught(photographs: Photographs, folder: str | os.PathLike[str]) -> DataSet:
    """Pair photographs with a teacher's maps in a folder that have their names, but for the suffix.

    The maps may have other sizes. Photographs without one are the data set's ``lone_images``.

    Args:
        photographs: As for `find_images`.
        folder: Of the maps: grey pictures, 0 to 255 for probabilities of 0 to 1.

    Raises:
        DataSetError: There are no photographs or no maps; no map has the name of a photograph, or several have.
    """
    data = find_images(photographs)
    maps = name_files(Path(folder), files_below(Path(folder)))
    by_stem: dict[str, list[Path]] = {}
    for path in maps.values():
        by_stem.setdefault(path.stem, []).append(path)
    pairs, lone = [], []
    for pair in data:
        stem = PurePath(pair.name).with_suffix("") if PurePath(pair.name).name == pair.image.name else pair.name
        own = maps.get(str(stem)) or maps.get(PurePath(pair.name).as_posix())
        found = by_stem.get(pair.image.stem, []) if own is None else [own]
        if len(found) > 1:
            cure = "put the maps into folders as the photographs are"
            raise DataSetError(f"{found[0]} and {found[1]} are both maps of {pair.image}: {cure}")
        if found:
            pairs.append(TaughtPair(pair.name, pair.image, found[0], rule=MaskRule()))
        else:
            lone.append(pair.image)
    if not pairs:
        problem = f"no map in {folder} (like {min(maps)}.png) has the name of a photograph, like {min(lone).name}"
        raise DataSetError(f"{problem}: both need the same names, but for the suffix")
    return DataSet(data.name, tuple(pairs), tuple(lone))


def _name_maps(folder: Path, masks: Iterable[str]) -> dict[str, Path]:
    """Return maps by the names of pairs; a list's names may begin with folders that the maps do not have."""
    named, known = dict[str, Path](), set(masks)
    for name, path in name_files(folder, files_below(folder)).items():
        wanted = [name] if name in known else [mask for mask in known if Path(mask).name == name]
        if len(wanted) > 1:
            mine = " or ".join(sorted(wanted))
            raise DataSetError(f"{path} could belong to {mine}: put the maps into folders as the list does")
        key = wanted[0] if wanted else name
        if key in named:
            raise DataSetError(f"{named[key]} and {path} are both maps of {key}: remove one")
        named[key] = path
    return named
