"""``goctconv demo``: training of a small network, the whole of Algorithm 1."""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Adam, Optimizer

from ..._checks import ArgumentError, ArgumentWarning
from ..._files import write_atomic
from ...models import CSNet
from ...pruning import PruningError, PruningPlan
from ...saliency import (
    DataSetError,
    SaliencyConfig,
    calibrate_batch_norm,
    find_pairs,
    learn,
    split_pairs,
    synthetic_images,
    validation_loader,
)
from ...saliency.data import with_rules
from ...training import Callback, ThresholdError, TrainingError, TrainingResult
from .._command import CommandError, spelling
from .._model import create_model, input_size
from .._output import is_for_users, plural, say, tell, writing
from .._predict_run import save_png
from .._training_page import prove
from ._outcome import Baselines, Outcome, measure_baselines, scores_of, write_results

if TYPE_CHECKING:
    from ...saliency.data import ImagePair, SaliencyLoader, Split
    from ...training import TrainingRun

# Tried on made-up pictures, so that all of it takes two to three minutes on one core.
_DEPTHS = (1, 1, 2, 3, 2)  # blocks of the stages: half of those of CSNet
_BATCH = 8
_PRESENTATIONS = 4500  # of pictures, over all epochs of training
_FINETUNE_SHARE = 0.25  # of the epochs of training
_FINETUNE_FACTOR = 0.3  # of the learning rates
_LEARNING_RATE = 3e-3
_BETAS = (0.9, 0.99)
# γ have some 500 steps to fade. Adam's steps follow the gradient's size of the last 1 / (1 - β2) steps: with β2 = 0.99,
# they shrink as γ does, and few γ fall below 1e-3 in this time.
_GAMMA_LEARNING_RATE = 6e-3
_GAMMA_BETAS = (0.9, 0.9)
_WEIGHT_DECAY = 5e-3
_DYNAMIC_WEIGHT_DECAY = 3.0
_THRESHOLD = 1e-3
_CALIBRATED_ON = 128  # pictures
_SIDES = (112, 176)  # of made-up pictures, in pixels: twice the input size
_FEWEST = 4
_VALIDATION = 0.16  # the share of pictures to compare with
_LINES = 12  # about as many epochs are printed
_NAMES = {"mae": "MAE", "max_f": "max F"}
_PHASES = {"train": "training", "finetune": "fine-tuning"}


def run_learn(args: argparse.Namespace, *, is_small: bool) -> int:
    """Train, prune, fine-tune and report, and return the exit status; a small network has half of its blocks."""
    start = time.perf_counter()
    input_size(args.size)
    model = _make_model(args, is_small=is_small)
    split = _take_pairs(args)
    with (
        tempfile.TemporaryDirectory(prefix="goctconv-demo-") as copies,
        _as_command_errors(args),
        ExitStack() as stack,
    ):
        if is_small:  # its operations are too short for several threads; with one, results do not depend on the cores
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        shrink = 2 * max(input_size(args.size))
        training, validation = (
            validation_loader(pairs, size=args.size, batch_size=16, workers=0, shrink=shrink, cache=copies)
            for pairs in split
        )
        baselines = measure_baselines(training, validation)
        tell(
            f"{plural(len(split.train), 'picture')} to train on, {len(split.validation)} to compare with; the best "
            f"constant map has an MAE of {baselines.constant:.4f} there, one map for all pictures {baselines.fixed:.4f}"
        )
        config = _config(args, len(split.train), shrink, Path(copies))
        result = learn(
            model, *split, config, optimizer=_optimizer, callbacks=[_Lines()],
            example_inputs=next(iter(validation)).images[:1],
        )  # fmt: skip
        outcome = _outcome(training, validation, model, result, baselines)
    write_results(args, split, outcome)
    tell(f"{outcome.summary()}\n{time.perf_counter() - start:.0f} s in all: open {args.output / 'report.html'}")
    if outcome.warnings():
        say(f"goctconv: {'; '.join(outcome.warnings())}")
    return 0 if outcome.is_good else 1


def _take_pairs(args: argparse.Namespace) -> Split:
    """Return the pictures to train on, and those to compare with."""
    if args.images < _FEWEST:
        raise CommandError(f"--images {args.images}: at least {_FEWEST} are needed to train on.")
    if args.data is None:
        tell(f"drawing {plural(args.images, 'picture')} with masks")
        pairs = _made_up(args.output / "data", args.images, args.seed)
    else:
        pairs = _own(args)
    if len(pairs) < _FEWEST:
        raise CommandError(f"--data {args.data}: {plural(len(pairs), 'pair')} found, at least {_FEWEST} are needed.")
    if len(pairs) > args.images:
        pairs = split_pairs(pairs, args.images, seed=args.seed).validation  # drawn by the seed
    return split_pairs(pairs, max(1, round(_VALIDATION * len(pairs))), seed=args.seed)


def _own(args: argparse.Namespace) -> tuple[ImagePair, ...]:
    folder: Path = args.data
    try:
        found, findings = with_rules(find_pairs(folder), args.foreground)
    except DataSetError as error:
        raise CommandError(
            f"--data {error}", "  to show maps of photographs without masks, add --no-learn or name weights."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each pair is named below
            usable = validation_loader(found, workers=0)
    except DataSetError as error:
        raise CommandError(f"--data {folder}: {error}") from error
    for finding in findings:
        say(f"goctconv: {finding.text(spelling(args))}")
    for name, reason in usable.skipped.items():
        say(f"goctconv: {name} is left out: {reason}")
    alone = len(found.lone_images) + len(found.lone_masks) + len(found.missing)
    note = f"; {plural(alone, 'file')} without a partner left out" if alone else ""
    tell(f"{plural(len(usable.pairs), 'photograph')} with masks in {folder}{note}")
    return usable.pairs


def _made_up(folder: Path, count: int, seed: int) -> tuple[ImagePair, ...]:
    """Write pictures and masks, and return them; the folder may hold others of an earlier run."""
    names = [f"{index:04d}" for index in range(1, count + 1)]
    with writing(f"--output {folder}"):
        for name, pictures in zip(names, synthetic_images(count, seed, sides=_SIDES), strict=True):
            for part, picture in zip(("images", "masks"), pictures, strict=True):
                write_atomic(folder / part / f"{name}.png", partial(save_png, picture))
    return tuple(pair for pair in find_pairs(folder) if pair.name in names)


def _make_model(args: argparse.Namespace, *, is_small: bool) -> CSNet:
    if args.accept_license is not None:
        raise CommandError("--accept-license goes with --pretrained; learning begins with fresh weights: leave it out.")
    options: dict[str, Any] = {"depths": _DEPTHS} if is_small else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        model = create_model(args.model, arguments=options or None)
    if not isinstance(model, CSNet):
        raise CommandError(
            f"--model {args.model}: the demo learns with a CSNet, such as csnet_x1; for other networks there is "
            "goctconv.learn_channels."
        )
    return model


def _config(args: argparse.Namespace, pictures: int, shrink: int, copies: Path) -> SaliencyConfig:
    epochs = args.epochs or max(1, round(_PRESENTATIONS / pictures))
    finetune = args.finetune_epochs
    return SaliencyConfig(
        epochs=epochs,
        finetune_epochs=max(1, round(_FINETUNE_SHARE * epochs)) if finetune is None else finetune,
        sizes=(args.size,),
        batch_size=min(_BATCH, pictures),
        workers=0,
        shrink=shrink,
        cache=copies,
        seed=args.seed,
        weight_decay=_DYNAMIC_WEIGHT_DECAY,
        threshold=_THRESHOLD,
        finetune_factor=_FINETUNE_FACTOR,
        channels_last=True,
        pruning_options={"latency": True},
    )


class _Lines(Callback):
    """Prints a line about every few epochs, and about pruning."""

    def on_epoch_end(self, run: TrainingRun, record: Any) -> None:
        """Print the first epoch, the last, and every few."""
        every = max(1, round(run.epochs / _LINES))
        if record.epoch in {1, run.epochs} or record.epoch % every == 0:
            scores = "".join(f", {_NAMES.get(name, name)} {value:.4f}" for name, value in record.validation.items())
            below = f", {record.below_threshold} of {record.channels} γ below {record.threshold:g}"
            below = below if record.phase == "train" else ""
            tell(f"{_PHASES[record.phase]} {record.epoch}/{run.epochs}: loss {record.loss:.4f}{scores}{below}")

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:  # noqa: ARG002  # the protocol's
        """Print what was removed."""
        report, (before, after) = plan.report, plan.report.parameters
        removed = f"{report.removed} of {report.channels} channels removed"
        tell(f"pruned: {removed}, {before:,} -> {after:,} parameters ({1 - after / before:.1%} went)")


def _optimizer(model: Any) -> Optimizer:
    gammas = [model.get_submodule(name).weight for name in model.dynamic_decay_names()]
    others = [parameter for parameter in model.parameters() if all(parameter is not gamma for gamma in gammas)]
    faster: dict[str, Any] = {"params": gammas, "lr": _GAMMA_LEARNING_RATE, "betas": _GAMMA_BETAS}
    return Adam([{"params": others}, faster], _LEARNING_RATE, betas=_BETAS, weight_decay=_WEIGHT_DECAY)


def _outcome(
    training: SaliencyLoader, validation: SaliencyLoader, model: CSNet, result: TrainingResult, baselines: Baselines
) -> Outcome:
    """Compare the networks before and after pruning; their BatchNorm statistics are measured anew."""
    slim: Any = result.model  # a CSNet too
    proof = prove(model.eval(), result.plan, [batch.images for batch in validation])
    calibrated_on = [batch.images for batch in training][: max(1, _CALIBRATED_ON // 16)]
    for network in (model, slim):
        calibrate_batch_norm(network.eval(), calibrated_on)
    return Outcome(model, slim, result, (scores_of(model, validation), scores_of(slim, validation)), baselines, proof)


@contextmanager
def _as_command_errors(args: argparse.Namespace) -> Iterator[None]:
    """Say what warnings say, and turn errors of learning into the command's."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _say_warning
        try:
            yield
        except DataSetError as error:
            raise CommandError(f"--data {args.data}: {error}") from error
        except (TrainingError, ThresholdError, PruningError, ArgumentError) as error:
            raise CommandError(f"learning has failed: {error.text(spelling(args))}") from error
        except ValueError as error:
            raise CommandError(f"learning has failed: {error}") from error
        except OSError as error:
            raise CommandError(f"there is no room for decoded copies ({error.strerror or error}).") from error


def _say_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:  # noqa: ARG001
    if isinstance(message, ArgumentWarning) and message.error.argument == "threshold":
        return  # that no γ is below it: the outcome says so
    if is_for_users(message, filename):
        say(f"goctconv: {message}")
