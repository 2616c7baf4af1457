"""``goctconv predict``: the run."""

import argparse
import time
from contextlib import closing
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ..._files import write_atomic
from ...saliency import ImageError, Predictor
from ...saliency.data import default_workers
from ...saliency.inference import Prepared, prepare, run_pipeline
from .._command import CommandError
from .._memory import out_of_memory
from .._model import choose_device, unusable
from .._output import plural, progress, say
from ._inputs import find_photographs
from ._network import make_predictor
from ._outputs import Task, plan_outputs
from ._results import make_pictures, max_pixels, save_png, wanted_kinds
from ._stream import run_stream


def run_predict(args: argparse.Namespace) -> int:
    """Write the maps that the arguments ask for, and return the exit status.

    Raises:
        CommandError: Nothing can be done: wrong inputs, outputs, weights or device.
        KeyboardInterrupt: With how far it came.
    """
    if "-" in args.inputs:
        return run_stream(args)
    if args.output is None:
        raise CommandError("say where the maps go: -o DIR.")
    photographs, problems = find_photographs(args.inputs, args.output)
    tasks = plan_outputs(photographs, args.output, wanted_kinds(args))
    predictor = make_predictor(args)
    start = time.perf_counter()
    for problem in problems:
        say(f"goctconv: {problem}")
    written, failed = _write_maps(predictor, tasks, args)
    failed += len(problems)
    if not args.quiet:
        failures = f" ({failed} failed)" if failed else ""
        seconds = time.perf_counter() - start
        say(f"{plural(written, 'map')} written to {args.output}{failures} in {seconds:.1f} s")
    return 1 if failed else 0


def _write_maps(predictor: Predictor, tasks: list[Task], args: argparse.Namespace) -> tuple[int, int]:
    limit = max_pixels(args)
    writer = _Writer(args)
    failed = 0

    def load(task: Task) -> Prepared:
        return prepare(task.path, predictor.size, limit)

    with progress(len(tasks), quiet=args.quiet) as shown:
        pipeline = run_pipeline(
            tasks,
            load,
            predictor.infer,
            writer.write,
            batch_size=args.batch_size,
            workers=args.workers or default_workers(),
        )
        try:
            with closing(pipeline) as outcomes:
                for outcome in outcomes:
                    shown.step()
                    if outcome.error is not None:
                        failed += 1
                        shown.line(f"goctconv: {_describe(outcome.source, outcome.error)}")
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            device = choose_device(args.device)
            raise CommandError(
                f"{device} has not enough memory for {plural(args.batch_size, 'photograph')} at size {args.size}: "
                "lower --batch-size or --size" + ("." if device.type == "cpu" else ", or take --device cpu.")
            ) from error
        except ValueError as error:
            raise unusable(error) from error
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f": {plural(writer.written, 'map')} of {len(tasks)} written") from interrupt
    return writer.written, failed


class _Writer:
    """Writes the results of photographs, in any thread, and counts the photographs whose results are complete."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.written = 0
        self._args = args
        self._lock = Lock()

    def write(self, task: Task, probability: NDArray[np.float32], size: tuple[int, int]) -> None:
        for kind, picture in make_pictures(task.path, probability, size, self._args, list(task.outputs)):
            write_atomic(task.outputs[kind], partial(save_png, picture))
        with self._lock:
            self.written += 1


def _describe(task: Task, error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or error
        return f"{task.path}: its map cannot be written ({reason}): check the output folder's space and permissions."
    return f"{task.path}: not enough memory for it: lower --workers, --batch-size or --size, or make it smaller."
