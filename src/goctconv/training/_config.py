"""TrainingConfig: every option of a run, in one place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .._checks import ArgumentError, ArgumentTypeError, check_instance, check_keywords
from .._torch import is_device
from ..graph import list_selectors
from ..optim import DynamicWeightDecay
from ..options import (
    FREE,
    SWITCH,
    UNTIL_PRUNED,
    Configuration,
    Kind,
    choice,
    documented,
    float_of,
    integer,
    number,
    option,
    path,
    several,
    shares,
)
from ..pruning import prune_channels
from ._optimizers import (
    COOLDOWN,
    OPTIMIZERS,
    PUBLISHED_MILESTONES,
    PUBLISHED_WARMUP,
    SCHEDULES,
    WITH_BETAS,
    create_optimizer,
    create_schedule,
)

VALLEY = "valley"
_COUNTED_BELOW = 1e-3  # as long as the threshold is not known
_CRITERIA = ("gamma", "gamma_first", "l1_filter", "geometric_median")
_GIVEN = {
    "model",
    "example_inputs",
    "threshold",
    "ratio",
    "criterion",
    "inplace",
    "optimizer",
    "weight_decay",
    "include",
}


def _check_threshold(name: str, value: Any) -> float | str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != VALLEY and not (is_number and 0 <= value < math.inf):
        cure = "1e-20 is published, short runs need about 1e-3; {threshold=None} keeps all channels"
        kind = ArgumentError if is_number or isinstance(value, str) else ArgumentTypeError
        raise kind(name, value, f"a number of at least 0, or {VALLEY!r}", cure)
    found: float | str = value
    return found


def _check_criterion(name: str, value: Any) -> Any:
    return value if callable(value) else choice(*_CRITERIA).check(name, value)


def _check_selection(name: str, value: Any) -> Any:
    given = list(value) if isinstance(value, Iterator) else value
    list_selectors(given, name)  # which says what is wrong
    return given


def _check_frozen(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not (isinstance(value, str | nn.Module | Iterable) or callable(value)):
        raise ArgumentTypeError(name, value, "True, False, or names or globs of modules")
    return _check_selection(name, value)


def _arguments_of(function: Callable[..., Any]) -> Kind:
    """Return the kind of keyword arguments of a function that a run does not give by itself."""

    def check(name: str, value: Any) -> Mapping[str, Any]:
        given: Mapping[str, Any] = check_instance(name, value, dict, f"a dict of arguments of {function.__name__}")
        check_keywords(function.__name__, given, set(inspect.signature(function).parameters) - _GIVEN)
        return given

    return Kind(check)


def _check_backend(name: str, value: Any) -> Any:
    return check_instance(name, value, (bool, str), "True, False or the name of a backend")


def _check_device(name: str, value: Any) -> str:
    text = str(check_instance(name, value, (str, torch.device), "a device, such as 'cpu' or 'cuda:1'"))
    if not is_device(text):
        raise ArgumentError(name, value, "a device of PyTorch", "pass cpu, cuda, cuda:1 or mps")
    return text


_BETAS = several(
    number(0, below=1), "two numbers from 0 to below 1, such as 0.9,0.999", "X,X", lambda betas: len(betas) == 2
)
_COMPILE = replace(SWITCH, check=_check_backend)


@documented
@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Configuration):
    """The options of a run of `goctconv.learn_channels`; the defaults are the published ones of CSNet.

    Files, the command line, checkpoints and summaries are derived from the fields: a subclass that adds a field adds
    an option to all of them.

    Raises:
        ArgumentError: A value that cannot be, or values that contradict each other.
        ArgumentTypeError: An unknown option, or a value of another type.

    Example:
        >>> from goctconv.training import TrainingConfig
        >>> config = TrainingConfig(epochs=60, lr=1e-3, threshold="valley")
        >>> config.changes()
        {'epochs': '60', 'lr': '0.001', 'threshold': 'valley'}
        >>> TrainingConfig(epoch=60)
        Traceback (most recent call last):
        goctconv._checks.ArgumentTypeError: argument='epoch' is none of TrainingConfig(); did you mean 'epochs'?
    """

    seed: int = option(0, "seed of all random numbers", integer(0), group="run")
    epochs: int = option(300, "epochs with dynamic weight decay", integer(1), grows=True)
    finetune_epochs: int = option(
        20, "epochs of fine-tuning the pruned network; 0: only prune", integer(0), resume=UNTIL_PRUNED, grows=True
    )
    accumulate: int = option(1, "batches per optimizer step", integer(1))
    optimizer: str = option("adam", f"optimizer by name: {', '.join(OPTIMIZERS)}", choice(*OPTIMIZERS))
    betas: tuple[float, ...] = option((0.9, 0.99), "β1 and β2 of adam and adamw", _BETAS)
    lr: float = option(1e-4, "learning rate", number(above=0))
    backbone_rate: float = option(1.0, "learning rate of a pretrained backbone, as a multiple of {lr}", number(above=0))
    schedule: str = option("step", f"schedule of the learning rate: {', '.join(SCHEDULES)}", choice(*SCHEDULES))
    milestones: tuple[float, ...] = option(
        PUBLISHED_MILESTONES,
        "shares of a phase after which the schedule step divides the learning rate by 10",
        shares(),
    )
    warmup: int = option(PUBLISHED_WARMUP, "epochs of linear warm-up of the schedule warmup-cosine", integer(0))
    cooldown: int = option(COOLDOWN, "last epochs in which the schedule cooldown falls", integer(0))
    clip_grad: float | None = option(None, "maximum norm of the gradients", number(above=0).optional())
    weight_decay: float = option(
        3.0, "λ of dynamic weight decay; the γ that it decays get no ordinary weight decay", number(0)
    )
    ordinary_weight_decay: float = option(5e-3, "weight decay of all other parameters", number(0))
    gamma_rate: float = option(
        1.0,
        "learning rate of the γ that decay dynamically, as a multiple of that of the others; short runs need "
        "more than 1",
        number(above=0),
    )
    gamma_beta2: float | None = option(
        None,
        "β2 of adam and adamw for these γ; a smaller one than that of {betas} lets them fade in fewer steps",
        number(0, below=1).optional(),
    )
    threshold: float | str | None = option(
        1e-20,
        "channels with a score below X are removed: 1e-20 is published, short runs need about 1e-3; valley: find it in "
        "the histogram of γ; none: keep all",
        Kind(_check_threshold, float_of, f"X|{VALLEY}").optional("none"),
        resume=UNTIL_PRUNED,
    )
    target_parameters: float | None = option(
        None,
        "share of the parameters that stays, such as 0.4: the threshold is chosen so, in place of {threshold}",
        number(above=0, below=1).optional(),
        resume=UNTIL_PRUNED,
    )
    target_macs: float | None = option(
        None,
        "share of the multiply-accumulates that stays, as {target_parameters}",
        number(above=0, below=1).optional(),
        resume=UNTIL_PRUNED,
    )
    criterion: Any = option(
        None,
        f"score of a channel: {', '.join(_CRITERIA)}; auto: the published one",
        Kind(_check_criterion, str, "NAME").optional("auto"),
        resume=UNTIL_PRUNED,
        in_python="or a function, as in `goctconv.prune_channels`",
    )
    finetune_optimizer: str = option(
        "transferred",
        "optimizer state for fine-tuning: transferred (cut like the parameters) or fresh",
        choice("transferred", "fresh", metavar="KIND"),
        resume=UNTIL_PRUNED,
    )
    finetune_factor: float = option(
        1.0,
        "initial learning rate of fine-tuning, as a multiple of that of training",
        number(above=0),
        resume=UNTIL_PRUNED,
    )
    include: Any = option(
        None,
        "BatchNorm layers to decay dynamically, by name; None: those of the model's dynamic_decay_names(), else all",
        Kind(_check_selection, is_optional=True),
    )
    decay_options: Mapping[str, Any] = option(
        {},
        'other arguments of `goctconv.DynamicWeightDecay`: {"cost": "resolution"}',
        _arguments_of(DynamicWeightDecay),
    )
    pruning_options: Mapping[str, Any] = option(
        {}, 'of `goctconv.prune_channels`: {"groups": True}', _arguments_of(prune_channels), resume=UNTIL_PRUNED
    )
    freeze_batch_norm: Any = option(
        False,
        "freeze the BatchNorms of the backbone, which then keep their channels",
        replace(SWITCH, check=_check_frozen),
        group="network",
        in_python="or others, by names or globs of modules",
    )
    device: str | None = option(
        None,
        "device to train on: cpu, cuda, cuda:1 ...; auto: CUDA if available",
        Kind(_check_device, str, "NAME").optional("auto"),
        group="computing",
        resume=FREE,
        in_python="None or auto: where the model is",
    )
    amp: str | None = option(
        None,
        "mixed precision: bf16, fp16 (with scaled gradients) or none",
        choice("bf16", "fp16", metavar="KIND").optional("none"),
        group="computing",
    )
    channels_last: bool = option(False, "use the channels-last memory format, which is faster", group="computing")
    compile: bool | str = option(
        False, "compile the network, which takes minutes at first", _COMPILE, group="computing"
    )
    native: bool = option(
        False,
        "train BatchNorm and PReLU on a processor by kernels that a C compiler makes at the start, which is faster",
        group="computing",
    )
    checkpoints: Path | None = option(
        None,
        "folder for checkpoints, written after each epoch and at SIGTERM; the last two are kept, and those from which "
        "a longer run can go on",
        replace(path().optional(), parse=None),
        resume=FREE,
    )
    checkpoint_steps: int | None = option(
        None,
        "steps of the optimizer after which a checkpoint is written within an epoch too",
        integer(1).optional(),
        resume=FREE,
    )
    keep_unpruned: bool = option(
        False, "whether the result includes the weights before pruning", replace(SWITCH, parse=None), resume=FREE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is None and self.finetune_epochs:
            problem = f"removes nothing, so {{finetune_epochs={self.finetune_epochs}}} has nothing to do"
            raise ArgumentError("threshold", None, problem=problem, cure="pass {finetune_epochs=0}, or a threshold")
        if self.threshold == VALLEY and not self._scores_gamma:
            problem = f"is in the histogram of γ, and {{criterion={self.criterion!r}}} scores something else"
            raise ArgumentError("threshold", VALLEY, problem=problem, cure="pass a number, or {criterion='gamma'}")
        if self.gamma_beta2 is not None and self.optimizer not in WITH_BETAS:
            problem = f"is for adam and adamw, and {{optimizer={self.optimizer!r}}} has no β2"
            raise ArgumentError("gamma_beta2", self.gamma_beta2, problem=problem, cure="leave it out")
        if (target := self.target) is not None:
            self._check_target(*target)

    def _check_target(self, name: str, share: float) -> None:
        both = self.target_parameters is not None and self.target_macs is not None
        if both or self.threshold not in {type(self).threshold, VALLEY}:
            other = f"target_macs={self.target_macs}" if both else f"threshold={self.threshold}"
            problem = f"chooses the threshold, and so does {{{other}}}" if both or self.threshold else ""
            problem = problem or "is to remove channels, and {threshold=None} keeps all"
            raise ArgumentError(name, share, problem=problem, cure="leave one of them out")
        if not self._scores_gamma:
            problem = f"chooses a threshold of γ, and {{criterion={self.criterion!r}}} scores something else"
            raise ArgumentError(name, share, problem=problem, cure="pass {criterion='gamma'}")

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer of a network."""
        return create_optimizer(
            model,
            self.optimizer,
            lr=self.lr,
            weight_decay=self.ordinary_weight_decay,
            betas=self.betas,
            backbone_rate=self.backbone_rate,
        )

    def make_scheduler(self, optimizer: Optimizer, epochs: int) -> LRScheduler:
        """Return the schedule of an optimizer in a phase of so many epochs."""
        return create_schedule(
            optimizer,
            epochs,
            self.schedule,
            milestones=self.milestones,
            warmup=self.warmup,
            cooldown=self.cooldown,
        )

    @property
    def total(self) -> int:
        """The epochs of both phases."""
        return self.epochs + self.finetune_epochs

    @property
    def target(self) -> tuple[str, float] | None:
        """The option that says which share stays, and the share."""
        named = {"target_parameters": self.target_parameters, "target_macs": self.target_macs}
        return next(((name, share) for name, share in named.items() if share is not None), None)

    @property
    def known_threshold(self) -> float | None:
        """The threshold of γ, where it is known before training."""
        is_known = self._scores_gamma and isinstance(self.threshold, int | float) and self.target is None
        return cast("float", self.threshold) if is_known else None

    @property
    def counted_below(self) -> float:
        """The threshold with which the history counts γ: that of the run, or 1e-3 where it is not known yet."""
        return _COUNTED_BELOW if self.known_threshold is None else self.known_threshold

    @property
    def is_plain(self) -> bool:
        """Whether the network is only trained: nothing decays dynamically, and no channel goes."""
        return self.weight_decay == 0 and self.threshold is None

    @property
    def _scores_gamma(self) -> bool:
        return self.criterion is None or str(self.criterion).startswith("gamma")
