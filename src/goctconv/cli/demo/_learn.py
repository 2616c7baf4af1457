"""``goctconv demo``: a small network goes through the whole of Algorithm 1."""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ...models import CSNet
from ...pruning import PruningError
from ...saliency import (
    DataSetError,
    SaliencyConfig,
    SaliencyValidation,
    calibrate_batch_norm,
    learn,
    validation_loader,
)
from ...saliency.data import SaliencyLoader, Split
from ...training import ThresholdError, TrainingError, TrainingResult
from .._command import CommandError
from .._learned import prove
from .._model import create_model, input_size
from .._output import plural, say, tell
from ._data import take_pairs
from ._judge import Baselines, measure_baselines
from ._outcome import Outcome
from ._progress import Lines
from ._report import write_results

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
_SCALE_LEARNING_RATE = 6e-3
_SCALE_BETAS = (0.9, 0.9)
_WEIGHT_DECAY = 5e-3
_DYNAMIC_WEIGHT_DECAY = 3.0
_THRESHOLD = 1e-3
_CALIBRATED_ON = 128  # pictures


def run_learn(args: argparse.Namespace, *, is_small: bool) -> int:
    """Train, prune, fine-tune and report, and return the exit status.

    Args:
        args: Those of the command line.
        is_small: Whether the network has half of its blocks.

    Raises:
        CommandError: There is nothing to learn from, the model cannot learn, or nothing can be written.
    """
    start = time.perf_counter()
    input_size(args.size)
    model = _make_model(args, is_small=is_small)
    split = take_pairs(args)
    with (
        tempfile.TemporaryDirectory(prefix="goctconv-demo-") as copies,
        _as_command_errors(args),
        _threads(1 if is_small else torch.get_num_threads()),
    ):
        loaders = _loaders(args, split, Path(copies))
        baselines = measure_baselines(*loaders)
        tell(
            f"{plural(len(split.train), 'picture')} to learn from, {len(split.validation)} to compare with; the best "
            f"constant map has an MAE of {baselines.constant:.4f} there, one map for all pictures {baselines.fixed:.4f}"
        )
        example = next(iter(loaders[1])).images[:1]
        result = _learn(args, split, model, example, Path(copies))
        outcome = _judged(args, loaders, model, result, baselines)
    write_results(args, split, outcome)
    tell(outcome.summary(time.perf_counter() - start, args.output / "report.html"))
    if outcome.complaint():
        say(f"goctconv: {outcome.complaint()}")
    return 0 if outcome.is_good else 1


def _make_model(args: argparse.Namespace, *, is_small: bool) -> CSNet:
    if args.accept_license is not None:
        raise CommandError("--accept-license goes with --pretrained; learning begins with fresh weights: leave it out.")
    options: dict[str, Any] = {"depths": _DEPTHS} if is_small else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        model = create_model(args.model, arguments=options)
    if not isinstance(model, CSNet):
        raise CommandError(
            f"--model {args.model}: the demo learns with a CSNet, such as csnet_x1; for other networks there is "
            "goctconv.learn_channels."
        )
    return model


def _loaders(args: argparse.Namespace, split: Split, copies: Path) -> tuple[SaliencyLoader, SaliencyLoader]:
    """Return the pictures to learn from, as they are, and those to compare with."""
    training, validation = (
        validation_loader(pairs, size=args.size, batch_size=16, workers=0, shrink=_shrink(args), cache=copies)
        for pairs in split
    )
    return training, validation


def _shrink(args: argparse.Namespace) -> int:
    return 2 * max(input_size(args.size))


def _learn(args: argparse.Namespace, split: Split, model: CSNet, example: Tensor, copies: Path) -> TrainingResult:
    batch = min(_BATCH, len(split.train))
    epochs = args.epochs or max(1, round(_PRESENTATIONS / len(split.train)))
    finetune = args.finetune_epochs
    config = SaliencyConfig(
        epochs=epochs,
        finetune_epochs=max(1, round(_FINETUNE_SHARE * epochs)) if finetune is None else finetune,
        sizes=(args.size,),
        batch_size=batch,
        workers=0,
        shrink=_shrink(args),
        cache=copies,
        seed=args.seed,
        weight_decay=_DYNAMIC_WEIGHT_DECAY,
        threshold=_THRESHOLD,
        finetune_factor=_FINETUNE_FACTOR,
        channels_last=True,
        pruning_options={"latency": True},
    )
    return learn(
        model,
        split.train,
        split.validation,
        config,
        optimizer=_optimizer,
        callbacks=[Lines()],
        example_inputs=example,
    )


def _optimizer(model: nn.Module) -> Optimizer:
    if not isinstance(model, CSNet):
        raise TypeError(f"model is a {type(model).__name__}, expected a CSNet")
    scales = [model.get_submodule(name).weight for name in model.dynamic_decay_names()]
    own = {id(scale) for scale in scales}
    others = [parameter for parameter in model.parameters() if id(parameter) not in own]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": scales, "lr": _SCALE_LEARNING_RATE, "betas": _SCALE_BETAS},
    ]
    return Adam(groups, _LEARNING_RATE, betas=_BETAS, weight_decay=_WEIGHT_DECAY)


def _judged(
    args: argparse.Namespace,
    loaders: tuple[SaliencyLoader, SaliencyLoader],
    model: CSNet,
    result: TrainingResult,
    baselines: Baselines,
) -> Outcome:
    """Compare the networks before and after pruning; their BatchNorm statistics are measured anew."""
    slim = result.model
    if not isinstance(slim, CSNet):
        raise TypeError(f"pruning made a {type(slim).__name__} of a CSNet")
    training, validation = loaders
    proof = prove(model.eval(), result.plan, [batch.images for batch in validation])
    calibrated_on = [batch.images for batch in training][: max(1, _CALIBRATED_ON // 16)]
    scores = []
    for network in (model, slim):
        network.eval()
        calibrate_batch_norm(network, calibrated_on)
        scores.append(SaliencyValidation(validation)(network))
    return Outcome(args.model, args.seed, model, slim, result, (scores[0], scores[1]), baselines, proof)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with so many threads.

    The small network's operations are too short for several: where other programs run, these wait for each other most
    of the time. With one, results do not depend on the number of cores either.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _as_command_errors(args: argparse.Namespace) -> Iterator[None]:
    """Say what warnings say, and turn errors of learning into the command's."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", "no γ is below")  # the outcome says so
        warnings.showwarning = _say_warning
        try:
            yield
        except DataSetError as error:
            raise CommandError(f"--data {args.data}: {error}") from error
        except (TrainingError, ThresholdError, PruningError, ValueError) as error:
            raise CommandError(f"learning has failed: {error}") from error
        except OSError as error:
            raise CommandError(f"there is no room for decoded copies ({error.strerror or error}).") from error


def _say_warning(message: Warning | str, *_: object, **__: object) -> None:
    say(f"goctconv: {message}")
