"""``goctconv predict``: the run."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._files import write_atomic
from ..deployment import ExportError, NotSupportedError
from ..saliency import ImageError, Predictor, cutout, grey_map, overlay, read_image
from ._command import CommandError
from ._model import choose_device, computing, input_size_or_own, load_trained_model, settle_size
from ._output import plural, progress, say, write_bytes
from ._predict_files import find_photographs, plan_outputs

_MAP, _CUTOUT, _OVERLAY = "", "_cutout", "_overlay"  # as they end the file's name

# Level 6, the default, takes twice as long, for files a tenth smaller.
_COMPRESS_LEVEL = 3
_EXPORTED = {".onnx", ".xml"}
R = TypeVar("R")


def run_predict(args: argparse.Namespace) -> int:
    """Write the maps that the arguments ask for, and return the exit status."""
    if "-" in args.inputs:
        return _run_stream(args)
    if args.output is None:
        raise CommandError("say where the maps go: -o DIR")
    notes: list[str] = []
    photographs, problems = find_photographs(args.inputs, args.output, notes)
    plan = plan_outputs(photographs, args.output, _wanted_kinds(args), keep_suffix=args.keep_suffix)
    notes += [f"{names} would have results of one name: these keep the suffix" for names in plan.renamed]
    predictor = make_predictor(args)
    start = time.perf_counter()
    for problem in (*problems, *plan.problems):
        say(f"goctconv: {problem}")
    for note in notes if not args.quiet else ():
        say(f"goctconv: note: {note}")
    written, failed = _write_maps(predictor, plan.outputs, args)
    failed += len(problems) + len(photographs) - len(plan.outputs)
    if not args.quiet:
        failures = f" ({failed} failed)" if failed else ""
        seconds = time.perf_counter() - start
        say(f"{plural(written, 'map')} written to {args.output}{failures} in {seconds:.1f} s")
    return 1 if failed else 0


def _write_maps(
    predictor: Predictor, outputs: dict[Path, dict[str, Path]], args: argparse.Namespace
) -> tuple[int, int]:
    def write(path: Path, probability: NDArray[np.float32], size: tuple[int, int]) -> None:
        for kind, picture in _make_pictures(path, probability, size, args, list(outputs[path])):
            write_atomic(outputs[path][kind], partial(save_png, picture))

    return write_results(predictor, outputs, write, args, "map")


def write_results(
    predictor: Predictor,
    targets: Mapping[Path, object],
    write: Callable[[Path, NDArray[np.float32], tuple[int, int]], R],
    args: argparse.Namespace,
    result: str,
    report: Callable[[Path, R, Callable[[str], None]], None] | None = None,
) -> tuple[int, int]:
    """Write the results of photographs, and return how many are complete and how many have failed.

    Args:
        predictor: Predicts the maps.
        targets: The photographs to read.
        write: Gets a photograph, its map and its size, in any thread, and writes what is wanted.
        args: Those of the command.
        result: The word for a result, such as "map".
        report: Gets a photograph, what ``write`` returned, and what prints a line, in the order of the photographs.
    """
    lock = Lock()
    written = failed = 0

    def counted(path: Path, probability: NDArray[np.float32], size: tuple[int, int]) -> tuple[R]:
        nonlocal written
        value = write(path, probability, size)
        with lock:
            written += 1
        return (value,)

    with progress(len(targets), quiet=args.quiet) as shown, computing(args, choose_device(args.device)):
        try:
            with closing(predictor.each(targets, counted, workers=args.workers, max_pixels=args.max_pixels)) as found:
                for outcome in found:
                    shown.step()
                    if outcome.value is None:
                        failed += 1
                        error = outcome.error or RuntimeError("no picture was drawn")
                        shown.line(f"goctconv: {describe(outcome.source, error, result)}")
                    elif report is not None:
                        report(outcome.source, outcome.value[0], shown.line)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f": {plural(written, result)} of {len(targets)} written") from interrupt
    return written, failed


def describe(path: Path, error: Exception, result: str) -> str:
    """Say why a photograph has no result."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or error
        return f"{path}: its {result} cannot be written ({reason}): check the output folder's space and permissions"
    return f"{path}: not enough memory for it: lower --workers, --batch-size or --size, or make it smaller"


def _run_stream(args: argparse.Namespace) -> int:
    """Read an image from stdin and write the PNG of its map (or cutout, or overlay) to stdout."""
    kind = _check_stream(args)

    def draw(data: bytes, probability: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
        return next(picture for _, picture in _make_pictures(data, probability, size, args, [kind]))

    picture = predict_stdin(args, draw)
    if picture is None:
        return 1
    png = io.BytesIO()
    save_png(picture, png)
    write_bytes(png.getvalue())
    return 0


def predict_stdin(
    args: argparse.Namespace, finish: Callable[[bytes, NDArray[np.float32], tuple[int, int]], R]
) -> R | None:
    """Return what is made of an image on standard input and its map; None, and a line, where it is no image."""
    predictor = make_predictor(args)
    data = read_stdin(args.max_pixels)
    try:
        photograph = read_image(data, max_pixels=args.max_pixels, name="standard input")
    except ImageError as error:
        say(f"goctconv: {error}")
        return None

    def finished(_: object, probability: NDArray[np.float32], size: tuple[int, int]) -> R:
        return finish(data, probability, size)

    with computing(args, choose_device(args.device)):
        (outcome,) = predictor.each([np.asarray(photograph)], finished, max_pixels=args.max_pixels)
    if outcome.value is None:
        raise outcome.error or RuntimeError("no picture was drawn")
    return outcome.value


def read_stdin(max_pixels: int) -> bytes:
    """Return the bytes of an image on standard input, of which there are no more than ``max_pixels`` may need."""
    most = 8 * max_pixels + (64 << 20)  # 16 bits of red, green, blue and transparency, and what cameras add
    if sys.stdin is None:
        raise CommandError("standard input is closed: redirect an image to it, like <cat.jpg")
    try:
        content = bytearray()
        while len(content) <= most and (part := sys.stdin.buffer.read(1 << 20)):
            content += part
    except OSError as error:
        raise CommandError(f"standard input cannot be read ({error.strerror or error})") from error
    if len(content) > most:
        problem = f"standard input has more than {most:,} bytes, as no photograph of {max_pixels:,} pixels has"
        raise CommandError(f"{problem}: raise --max-pixels if it is one")
    return bytes(content)


def _check_stream(args: argparse.Namespace) -> str:
    if len(args.inputs) > 1:
        raise CommandError('"-" stands for one image on standard input: give no other INPUT with it.')
    if args.output is not None:
        raise CommandError('the result of "-" goes to standard output: drop -o, and redirect it, like >map.png.')
    if args.cutout and args.overlay:
        raise CommandError("standard output takes one picture: choose --cutout or --overlay")
    if sys.stdout is None:
        raise CommandError("standard output is closed: redirect it, like >map.png")
    if sys.stdout.isatty():
        raise CommandError("a PNG would be printed on the terminal: redirect standard output, like >map.png")
    return _wanted_kinds(args)[-1]


def make_predictor(args: argparse.Namespace) -> Predictor:
    """Load the model that the arguments ask for into the engine that they ask for."""
    exported = Path(args.model).suffix in _EXPORTED
    if exported and (args.weights is not None or args.pretrained or args.accept_license is not None):
        raise CommandError(f"--model {args.model}: this file has its weights in it: leave out --weights and the like")
    model = Path(args.model) if exported else load_trained_model(args)
    settle_size(args, None if isinstance(model, Path) else model)
    on_processor = exported or args.backend in {"native", "onnx", "openvino"}
    device = choose_device("cpu" if args.device == "auto" and on_processor else args.device)
    try:
        size = input_size_or_own(args.size)
        if args.backend in {"onnx", "openvino"} and not exported:
            say("exporting the network first; goctconv export does it once for all")
        return Predictor(model, backend=args.backend, size=size, batch_size=args.batch_size, device=device)
    except (ExportError, ImportError, NotSupportedError, OSError) as error:
        raise CommandError(str(error)) from error


def _wanted_kinds(args: argparse.Namespace) -> list[str]:
    """Return the kinds of pictures that the arguments ask for."""
    return [_MAP] + [_CUTOUT] * args.cutout + [_OVERLAY] * args.overlay


def _make_pictures(
    source: Path | bytes,
    probability: NDArray[np.float32],
    size: tuple[int, int],
    args: argparse.Namespace,
    kinds: list[str],
) -> Iterator[tuple[str, Image.Image]]:
    """Yield the kind and picture of each of ``kinds``.

    A photograph is read again where it is shown: keeping it since it was preprocessed would need memory for two batches
    of large photographs.
    """
    grey = grey_map(probability, size, threshold=args.threshold)
    if _MAP in kinds:
        yield _MAP, Image.fromarray(grey)
    if kinds == [_MAP]:
        return
    photograph = read_image(source, max_pixels=args.max_pixels, shown=True)
    if (photograph.height, photograph.width) != size:
        raise ImageError(f"{source!s}: the photograph changed its size meanwhile: run the command again")
    if _CUTOUT in kinds:
        yield _CUTOUT, cutout(photograph, grey)
    if _OVERLAY in kinds:
        yield _OVERLAY, overlay(photograph, grey)


def save_png(picture: Image.Image, stream: BinaryIO) -> None:
    """Write a picture as PNG."""
    picture.save(stream, format="PNG", compress_level=_COMPRESS_LEVEL)
