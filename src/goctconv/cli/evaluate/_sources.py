"""``goctconv evaluate``: which files are compared with which."""

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...saliency import DataSet, DataSetError, ImageError, ImagePair, find_pairs
from ...saliency.data import (
    MAX_PIXELS,
    data_set_name,
    files_below,
    image_size,
    match,
    name_files,
    open_path,
    pair_folders,
)
from .._command import CommandError
from .._output import plural, shorten


class Job(NamedTuple):
    """A data set whose pairs are (map or photograph, mask), and where it came from."""

    source: str
    data: DataSet

    @property
    def absent(self) -> tuple[Path, ...]:
        """Masks that nothing can be compared with, and files of a list that do not exist."""
        return self.data.lone_masks + self.data.missing


def find_jobs(args: argparse.Namespace) -> list[Job]:
    """Return the data sets that the arguments mean.

    Raises:
        CommandError: The arguments contradict each other, or a data set is not found.
    """
    _check(args)
    try:
        if args.masks:
            images = args.predictions or args.images
            return [Job(str(args.masks), pair_folders(images, args.masks, data_set_name(args.masks)))]
        jobs = _unique_names([Job(source, find_pairs(source)) for source in args.datasets])
        return [_take_maps(job, args.predictions, len(jobs)) for job in jobs] if args.predictions else jobs
    except (DataSetError, OSError) as error:
        raise CommandError(*str(error).splitlines()) from error


def check_sizes(jobs: Iterable[Job]) -> None:
    """Compare the sizes in the files' headers; what cannot be read is reported later.

    Raises:
        CommandError: Some differ.
    """
    different = [text for job in jobs for pair in job.data.pairs if (text := _compare_sizes(pair))]
    if different:
        raise CommandError(
            f"{plural(len(different), 'map')} of another size than the mask: {shorten(different, '; ')}. Pass --resize "
            "to resize the maps to their masks."
        )


def _check(args: argparse.Namespace) -> None:
    with_model = args.weights is not None or args.pretrained
    if args.predictions and with_model:
        raise CommandError(
            "--predictions are maps that exist, --weights and --pretrained make them: give one of these."
        )
    if bool(args.datasets) == bool(args.masks):
        raise CommandError(
            "say what to compare with: DATASET folders, or --masks DIR with --predictions DIR or --images DIR"
            + (", not both." if args.masks else ".")
        )
    if args.masks and bool(args.predictions) == bool(args.images):
        raise CommandError("--masks DIR goes with --predictions DIR (maps) or with --images DIR (photographs).")
    if args.images and not args.masks:
        raise CommandError("--images DIR goes with --masks DIR; a DATASET has its own photographs.")


def _unique_names(jobs: list[Job]) -> list[Job]:
    """Call data sets of the same name by what the user typed."""
    count = Counter(job.data.name for job in jobs)
    return [Job(job.source, replace(job.data, name=job.source)) if count[job.data.name] > 1 else job for job in jobs]


def _take_maps(job: Job, predictions: Path, count: int) -> Job:
    """Replace the photographs by maps of the same names."""
    folder = _maps_of(predictions, job.data.name, alone=count == 1)
    masks = {pair.name: pair.mask for pair in job.data.pairs} | {mask.stem: mask for mask in job.data.lone_masks}
    paired = match(job.data.name, _name_maps(folder, masks), masks)
    if not paired.pairs:
        raise DataSetError(
            f"no map in {folder} has the name of a mask of {job.source}, like {min(masks)}.png: names must agree."
        )
    return Job(job.source, replace(paired, missing=job.data.missing))


def _maps_of(folder: Path, name: str, *, alone: bool) -> Path:
    if (folder / name).is_dir():
        return folder / name
    if alone:
        return folder
    raise CommandError(f"--predictions {folder}: there is no subfolder {name} in it, which this data set's maps need.")


def _name_maps(folder: Path, masks: Iterable[str]) -> dict[str, Path]:
    """Return maps by the names of pairs; a list's names may begin with folders that the maps do not have."""
    named: dict[str, Path] = {}
    known = set(masks)
    for name, path in name_files(folder, files_below(folder)).items():
        wanted = [name] if name in known else [mask for mask in known if Path(mask).name == name]
        if len(wanted) > 1:
            raise DataSetError(
                f"{path} could belong to {' or '.join(sorted(wanted))}: put the maps into folders as the list does."
            )
        key = wanted[0] if wanted else name
        if key in named:
            raise DataSetError(f"{named[key]} and {path} are both maps of {key}: remove one.")
        named[key] = path
    return named


def _compare_sizes(pair: ImagePair) -> str | None:
    try:
        sizes = [_size(pair.image), _size(pair.mask)]
    except ImageError:
        return None
    (height, width), (mask_height, mask_width) = sizes
    if sizes[0] == sizes[1]:
        return None
    return f"{pair.image} is {width} x {height}, its mask {mask_width} x {mask_height}"


def _size(path: Path) -> tuple[int, int]:
    with open_path(path, MAX_PIXELS) as image:
        return image_size(image)
