"""``goctconv learn``: from the arguments, a file and the run that is resumed to one configuration."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...saliency.losses._basic import Reduction
from ...training._checkpoint import STATE, Checkpoints
from .._command import CommandError
from ._options import FREE, OPTIONS, UNTIL_PRUNED, Option, Size
from ._presets import PRESETS
from ._toml import read_options, to_toml

CONFIG, CHECKPOINTS = "config.toml", "checkpoints"


@dataclass(frozen=True)
class Config:
    """The value of every option; the options document them."""

    data: list[Path]
    output: Path
    preset: str
    seed: int
    tensorboard: bool
    quiet: bool
    json: bool
    val: float | Path
    size: tuple[Size, ...]
    crop: int
    flip: str
    color: tuple[float, float, float]
    blur: float
    shrink: int | None
    cache: Path | None
    workers: int
    model: str
    model_args: str
    weights: Path | None
    backbone_weights: str | Path
    freeze_batch_norm: bool
    epochs: int
    finetune_epochs: int
    batch_size: int
    accumulate: int
    optimizer: str
    betas: tuple[float, float]
    lr: float
    backbone_rate: float
    schedule: str
    milestones: tuple[float, ...]
    warmup: int
    clip_grad: float | None
    weight_decay: float
    ordinary_weight_decay: float
    loss: str
    reduction: Reduction
    threshold: float | str
    criterion: str
    device: str
    threads: int | None
    amp: str
    channels_last: bool
    compile: bool

    def to_toml(self, options: Mapping[str, Option] = OPTIONS) -> str:
        """Return all options as TOML."""
        return to_toml({name: getattr(self, option.field) for name, option in options.items()})


@dataclass(frozen=True)
class Kind:
    """A command that learns: ``learn`` or ``distill``.

    Args:
        command: As typed.
        options: Its options, by name.
        make: What they make.
        needed: Options without which there is nothing to do, and what to say where one is missing.
        own: Options whose defaults no preset changes.
    """

    command: str
    options: Mapping[str, Option]
    make: Callable[..., Config]
    needed: Mapping[str, str]
    own: frozenset[str] = frozenset()


LEARN_KIND = Kind(
    "learn",
    OPTIONS,
    Config,
    {"data": "say what to learn from: goctconv learn DATA_DIR, with photographs and masks."},
)


def make_config(args: argparse.Namespace, kind: Kind = LEARN_KIND) -> Config:
    """Return the configuration that the arguments ask for.

    Raises:
        CommandError: A file cannot be read, something is missing, or a run is to be resumed that is none or another.
    """
    options = kind.options
    typed = {name: getattr(args, option.field) for name, option in options.items() if hasattr(args, option.field)}
    given = (read_options(args.config, options) if args.config else {}) | typed
    if "output" not in given:
        raise CommandError("say where the run is to be written: -o DIR.")
    saved = _saved(given, options) if args.resume else {}
    preset = PRESETS[given.get("preset", saved.get("preset", "csnet"))]
    defaults = {name: option.default for name, option in options.items()}
    defaults |= {name: False for name, option in options.items() if option.is_switch}
    changed = {name: value for name, value in preset.defaults.items() if name not in kind.own}
    values = defaults | changed | saved | given
    for name, message in kind.needed.items():
        if not values[name]:
            raise CommandError(message)
    return kind.make(**{option.field: values[name] for name, option in options.items()})


def _saved(given: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the configuration of the run that is to be resumed."""
    folder: Path = given["output"]
    if not (folder / CONFIG).is_file():
        raise CommandError(
            f"--resume: there is no run in {folder} (no {CONFIG}): check the path, or leave --resume out to begin one."
        )
    saved = read_options(folder / CONFIG, options)
    free = {FREE} if _is_pruned(folder) else {FREE, UNTIL_PRUNED}
    different = [
        f"  {name} is {_shown(saved.get(name))} there, {_shown(value)} here"
        for name, value in given.items()
        if options[name].changes not in free and saved.get(name, options[name].default) != value
    ]
    if different:
        raise CommandError(
            f"the run in {folder} has another configuration: leave these options out to go on with it, or begin anew "
            "in another folder:",
            *different,
        )
    return saved


def _is_pruned(folder: Path) -> bool:
    """Return whether a run goes on with the slim network."""
    last = Checkpoints(folder / CHECKPOINTS).last()
    return last is not None and json.loads((last / STATE).read_text(encoding="utf-8"))["plan"] is not None


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list | tuple):
        return ", ".join("x".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
    return str(value)
