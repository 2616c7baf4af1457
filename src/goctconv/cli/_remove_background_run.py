"""``goctconv remove-background``: the run."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._checks import ArgumentError
from .._files import write_atomic
from ..saliency import Cutout, ImageError, Predictor, read_image, refine_cutout
from ..saliency.matting import find_background
from ._command import CommandError
from ._output import plural, say, tell, write_bytes
from ._predict_files import find_photographs, plan_outputs
from ._predict_run import make_predictor, predict_stdin, save_png, write_results

_SUFFIXES = {".png": "png", ".webp": "webp", ".jpg": "jpg", ".jpeg": "jpg"}
_DEFAULT_FOLDER = "cutouts"
_HAS_OBJECT = 0.5
_QUALITY = {"webp": 90, "jpg": 92}


class _Done(NamedTuple):
    """What is known of a photograph whose background was removed."""

    size: tuple[int, int]  # (width, height)
    cutout: Cutout

    def facts(self, source: str, target: str) -> dict[str, Any]:
        box = self.cutout.box
        return {
            "input": source,
            "output": target,
            "width": self.size[0],
            "height": self.size[1],
            "box": None if box is None else list(box),
            "area": round(self.cutout.area, 6),
            "has_object": round(self.cutout.has_object, 4),
        }


def run_remove_background(args: argparse.Namespace) -> int:
    """Write the cut-outs that the arguments ask for, and return the exit status."""
    kind = _check(args)
    place = "blur" if args.blur_background else _background(args.background)
    if "-" in args.inputs:
        return _run_stream(args, kind, place)
    output = args.output or _DEFAULT_FOLDER
    is_file = output == "-" or Path(output).suffix.lower() in _SUFFIXES
    folder = Path(output).parent if is_file else Path(output)
    notes: list[str] = []
    photographs, problems = find_photographs(args.inputs, Path(output) if is_file else folder, notes)
    if is_file:
        targets = _only_target(photographs[0].path, len(photographs), output)
        refused: list[str] = []
    else:
        plan = plan_outputs(photographs, folder, [""], keep_suffix=args.keep_suffix, ending=f".{kind}")
        notes += [f"{names} would have results of one name: these keep the suffix" for names in plan.renamed]
        targets, refused = {path: places[""] for path, places in plan.outputs.items()}, plan.problems
    predictor = make_predictor(args)
    for problem in (*problems, *refused):
        say(f"goctconv: {problem}")
    for note in notes if not args.quiet else ():
        say(f"goctconv: note: {note}")
    waiting = {path: target for path, target in targets.items() if not (args.skip_existing and target.exists())}
    start = time.perf_counter()
    failed = _write_all(predictor, waiting, args, kind, place)
    written, skipped = len(waiting) - failed, len(targets) - len(waiting)
    failed += len(problems) + len(photographs) - len(targets)
    if not args.quiet and output != "-":
        where = next(iter(targets.values())) if len(targets) == 1 else folder
        rest = [f"{count} {word}" for count, word in ((skipped, "already there"), (failed, "failed")) if count]
        counts = f" ({', '.join(rest)})" if rest else ""
        what = "mask" if args.mask else "cut-out"
        say(f"{plural(written, what)} written to {where}{counts} in {time.perf_counter() - start:.1f} s")
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> str:
    """Return the format of the results, having refused arguments that contradict each other."""
    output = args.output or ("-" if "-" in args.inputs else _DEFAULT_FOLDER)
    named = _SUFFIXES.get(Path(output).suffix.lower()) if output != "-" else None
    kind: str = args.format or named or "png"
    if named is not None and kind != named:
        raise CommandError(f"-o {output} ends in the suffix of another format than --format {kind}: leave one out")
    if kind == "jpg" and args.background is None and not (args.blur_background or args.mask):
        raise CommandError("JPEG has no transparency: add --background white or --blur-background, or write png")
    if args.mask and (args.background is not None or args.blur_background):
        raise CommandError("--mask has no background: leave one of the two out")
    if output == "-" and args.json:
        raise CommandError("standard output takes the picture or --json: give -o a file")
    if output == "-" and sys.stdout is None:
        raise CommandError("standard output is closed: redirect it, like >cat.png")
    if output == "-" and sys.stdout.isatty():
        raise CommandError("a picture would be printed on the terminal: redirect standard output, like >cat.png")
    if output == "-" and args.skip_existing:
        raise CommandError("--skip-existing looks for files, but the result goes to standard output: leave it out")
    return kind


def _background(text: str | None) -> Any:
    try:
        return find_background(Path(text) if text == "blur" else text)
    except ImageError as error:
        raise CommandError(f"--background {error}") from error
    except ArgumentError as error:
        raise CommandError(f"--background {text}: this is neither a colour nor a file: check it") from error


def _only_target(photograph: Path, count: int, output: str) -> dict[Path, Path]:
    if count > 1:
        raise CommandError(f"-o {output} is for one photograph, but there are {count}: give a folder")
    if output != "-" and os.path.realpath(photograph) == os.path.realpath(output):
        raise CommandError(f"-o {output} would overwrite the photograph: give another name")
    return {photograph: Path(output)}


def _write_all(predictor: Predictor, targets: dict[Path, Path], args: argparse.Namespace, kind: str, place: Any) -> int:
    """Write the results of photographs, and return how many have failed."""

    def report(path: Path, found: _Done, line: Callable[[str], None]) -> None:
        _report(found, str(path), str(targets[path]), args, line)

    def write(path: Path, probability: NDArray[np.float32], size: tuple[int, int]) -> _Done:
        photograph = read_image(path, max_pixels=args.max_pixels, shown=True)
        if (photograph.height, photograph.width) != size:
            raise ImageError(f"{path}: the photograph changed its size meanwhile: run the command again")
        found = _cut(photograph, probability, args)
        picture = _picture(found.cutout, args, place)
        if str(targets[path]) == "-":
            write_bytes(_encoded(picture, kind))
        else:
            write_atomic(targets[path], partial(_save, picture, kind))
        return found

    return write_results(predictor, targets, write, args, "cut-out", report)[1]


def _report(found: _Done, source: str, target: str, args: argparse.Namespace, line: Any) -> None:
    level = _HAS_OBJECT if args.threshold is None else args.threshold
    if found.cutout.has_object < level and not args.quiet:
        line(f"goctconv: note: {source}: no object was found (has_object {found.cutout.has_object:.2f})")
    if args.json:
        tell(json.dumps(found.facts(source, target)))


def _run_stream(args: argparse.Namespace, kind: str, place: Any) -> int:
    """Read an image from standard input, and write its cut-out to standard output or a file."""
    if len(args.inputs) > 1:
        raise CommandError('"-" stands for one image on standard input: give no other INPUT with it.')
    output = args.output or "-"
    if output != "-" and Path(output).suffix.lower() not in _SUFFIXES:
        raise CommandError(f'-o {output} is a folder, and the result of "-" has no name: give -o FILE.png')
    if output != "-" and args.skip_existing and Path(output).exists():
        return 0

    def cut(data: bytes, probability: NDArray[np.float32], _: object) -> _Done:
        return _cut(read_image(data, max_pixels=args.max_pixels, shown=True), probability, args)

    found = predict_stdin(args, cut)
    if found is None:
        return 1
    content = _encoded(_picture(found.cutout, args, place), kind)
    if output == "-":
        write_bytes(content)
    else:
        try:
            write_atomic(Path(output), lambda stream: stream.write(content))
        except OSError as error:
            raise CommandError(f"-o {output}: cannot be written ({error.strerror or error})") from error
    _report(found, "-", output, args, say)
    return 0


def _cut(photograph: Image.Image, probability: NDArray[np.float32], args: argparse.Namespace) -> _Done:
    refine = None if args.refine == "none" else args.refine
    return _Done(photograph.size, refine_cutout(photograph, probability, refine=refine, threshold=args.threshold))


def _picture(cutout: Cutout, args: argparse.Namespace, place: Any) -> Image.Image:
    if not args.mask:
        return cutout.rendered(place, crop=args.crop)
    mask = cutout.image.getchannel("A")
    mask.info = {}
    return mask.crop(cutout.box) if args.crop and cutout.box is not None else mask


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    _save(picture, kind, stream)
    return stream.getvalue()


def _save(picture: Image.Image, kind: str, stream: BinaryIO) -> None:
    if kind == "png":
        save_png(picture, stream)
    else:
        profile = picture.info.get("icc_profile")
        picture.save(stream, format={"jpg": "JPEG"}.get(kind, "WEBP"), quality=_QUALITY[kind], icc_profile=profile)
