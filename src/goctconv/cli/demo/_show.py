"""``goctconv demo`` without learning: the maps of a network."""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

import torch
from PIL import Image
from torch import nn

from ..._files import write_atomic
from ...report import training_page
from ...saliency import (
    ImageError,
    calibrate_batch_norm,
    grey_map,
    overlay,
    predict,
    preprocess,
    read_image,
    synthetic_images,
)
from .._command import CommandError
from .._model import computing, create_asked_model, input_size, is_trained
from .._output import plural, printable, say, tell, write_file, writing
from .._predict_files import find_photographs
from .._predict_run import save_png
from .._training_page import Example, thumbnails

_UNTRAINED = (
    "The weights of this {model} are random, so these maps mean nothing: they show that everything runs. For maps that "
    "mean something, download the authors' weights (licence CC BY-NC-SA 4.0, not for commercial use) with "
    "`goctconv demo --model csnet_x1_l --pretrained --accept-license cc-by-nc-sa-4.0`, or load a file of yours with "
    "`--weights FILE`."
)
_TRAINED = "Maps of a network of {parameters:,} parameters with the weights of `{weights}`. White is salient."
_CALIBRATED_ON = 32  # pictures; of the others, one is in memory at a time
_MAX_BYTES = 400_000  # of the page
_BYTES_EACH = 40_000  # of it, where there are many pictures
_LARGEST = 1024  # photographs are made smaller than this on reading: the page shows thumbnails


_Picture = tuple[str, Image.Image, Image.Image | None]  # name, photograph, mask


def run_show(args: argparse.Namespace) -> int:
    """Write the demo's maps and page, and return the exit status."""
    start = time.perf_counter()
    input_size(args.size)
    tell(f"reading the pictures in {args.data}" if args.data else f"drawing {plural(args.images, 'picture')}")
    failures: list[str] = []
    pictures = iter(_read(args, failures) if args.data else _make_up(args))
    first = list(islice(pictures, _CALIBRATED_ON))
    if not first:
        raise CommandError(f"--data {args.data}: no photograph in it can be read.")
    model = _make_model(args, first)
    trained = is_trained(args)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    note = (_TRAINED if trained else _UNTRAINED).format(
        model=args.model, parameters=parameters, weights=args.weights or args.model
    )
    with writing(f"--output {args.output}"), computing(args):
        cards = [_show(model, picture, args) for picture in chain(first, pictures)]
    kind = "photograph" if args.data else "made-up picture"
    named = args.weights.name if args.weights else args.model  # its widths are those of the file
    text = training_page(
        "Maps of a network",
        subtitle=f"{named} on {plural(len(cards), kind)}, input size {args.size}",
        note=note,
        warning=not trained,
        examples=cards,
        max_bytes=max(_MAX_BYTES, _BYTES_EACH * len(cards)),
    )
    page = args.output / "report.html"
    write_file(page, text)
    tell(note.replace("`", ""))
    tell(printable(f"{plural(len(cards), 'map')} in {time.perf_counter() - start:.1f} s: open {page}"))
    return 1 if failures else 0


def _make_up(args: argparse.Namespace) -> Iterator[_Picture]:
    for index, (photograph, mask) in enumerate(synthetic_images(args.images, args.seed), start=1):
        yield f"{index:04d}", photograph, mask


def _read(args: argparse.Namespace, failures: list[str]) -> Iterator[_Picture]:
    """Yield the photographs of ``--data``; what is wrong with others is said and appended to ``failures``."""
    if not args.data.is_dir():
        raise CommandError(f"--data {args.data}: there is no such folder: check the path.")
    photographs, problems = find_photographs([str(args.data)], args.output)
    for problem in problems:
        _fail(problem, failures)
    for path, stem in photographs[: args.images]:
        try:
            photograph = read_image(path)
        except ImageError as error:  # noqa: PERF203  (each file fails on its own)
            _fail(str(error), failures)
        else:
            photograph.thumbnail((_LARGEST, _LARGEST))
            yield stem.as_posix(), photograph, None


def _fail(problem: str, failures: list[str]) -> None:
    failures.append(problem)
    say(f"goctconv: {problem}")


def _make_model(args: argparse.Namespace, pictures: list[_Picture]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        model = create_asked_model(args)
    if not is_trained(args):
        # Fresh weights overflow in eval mode until the BatchNorm statistics fit them.
        inputs = torch.cat([preprocess(photograph, args.size) for _, photograph, _ in pictures])
        calibrate_batch_norm(model, torch.split(inputs, 4))
    return model.eval()


def _show(model: nn.Module, picture: _Picture, args: argparse.Namespace) -> Example:
    name, photograph, mask = picture
    grey = grey_map(predict(model, [photograph], size=args.size)[0])
    saliency = Image.fromarray(grey)
    shown = {"photograph": photograph.convert("RGB"), "map": saliency, "overlay": overlay(photograph, grey)}
    files = {"maps": saliency}
    if mask is not None:  # a made-up picture
        shown = {"picture": shown.pop("photograph"), **shown, "true mask": mask}
        files |= {"images": photograph, "masks": mask}
    for folder, image in files.items():
        write_atomic(args.output / folder / f"{name}.png", partial(save_png, image))
    return name, thumbnails(shown)
