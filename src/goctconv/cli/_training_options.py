"""The options of ``goctconv learn`` and ``goctconv distill``: on the command line, in files, and of a run resumed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checks import ArgumentError, ArgumentTypeError, escaped, spelled
from ..options import (
    FIXED,
    FREE,
    SWITCH,
    Configuration,
    Kind,
    Option,
    absolute,
    choice,
    float_of,
    integer,
    option,
    options_of,
    path,
    read_toml,
)
from ..saliency import DistillationConfig
from ..saliency.learning import PRESETS
from ._arguments import parse_model_args
from ._command import CommandError

CONFIG, CHECKPOINTS = "config.toml", "checkpoints"
_GROUPS = ("run", "teacher", "data", "network", "training", "computing")
_RESUME = "go on with the run in DIR, and, if it has ended, with more --epochs or --finetune-epochs"
_VALIDATION = "a share from 0 to below 1, a number of pairs, or a folder"


def _validation(name: str, value: Any) -> float | Path:
    if isinstance(value, Path):
        return value
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ArgumentTypeError(name, value, _VALIDATION)
    if 0 <= value < 1 or (isinstance(value, int) and value >= 1):
        return value
    raise ArgumentError(name, value, _VALIDATION)


def _parse_validation(text: str) -> float | Path | str:
    value = float_of(text)
    if isinstance(value, str) or math.isnan(value):
        return absolute(text)
    return int(text) if text.isdigit() else value


def _model_args(name: str, value: Any) -> str:
    try:
        parse_model_args(value)
    except argparse.ArgumentTypeError as error:
        raise ArgumentError(name, value, problem=f"is no list of arguments: {escaped(error)}") from error
    return str(value)


def _backbone_weights(name: str, value: Any) -> str | Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ArgumentTypeError(name, value, "a file, timm or none")
    return value


@dataclass(frozen=True, kw_only=True)
class RunOptions(Configuration):
    """What the command line adds to the options of training: where a run goes, and its network."""

    output: Path | None = option(
        None, "folder for everything that the run writes", path("DIR").optional(), group="run", resume=FREE
    )
    preset: str = option(
        "csnet", f"where defaults come from: {', '.join(PRESETS)}; see above", choice(*PRESETS), group="run"
    )
    tensorboard: bool = option(False, "write DIR/tensorboard too", SWITCH, group="run", resume=FREE)
    quiet: bool = option(False, "no progress, no notes", SWITCH, group="run", resume=FREE)
    json: bool = option(False, "print the summary as JSON", SWITCH, group="run", resume=FREE)
    val: float | Path = option(
        0.1,
        "folder, or share or number of the pairs, to compare maps with; 0: none",
        Kind(_validation, _parse_validation, "V"),
        group="data",
    )
    model_args: str = option(
        "", "of the network, such as 'norm=batch'", Kind(_model_args, str, "'NAME=VALUE ...'"), group="network"
    )
    weights: Path | None = option(None, "checkpoint to begin with", path().optional(), group="network")
    backbone_weights: str | Path | None = option(
        None,
        "of the backbone of a CSF or SCFNet: a file; timm: download timm's; or none",
        Kind(_backbone_weights, lambda text: text if text == "timm" else absolute(text), "FILE|timm").optional("none"),
        group="network",
    )
    threads: int | None = option(None, "of PyTorch in each process", integer(1).optional(), group="computing")


_OF_TRAINING, _OF_RUNS = options_of(DistillationConfig), options_of(RunOptions)


@dataclass(frozen=True)
class RunKind:
    """A command that trains."""

    command: str  # as typed
    config: type[Any]
    positional: str  # the option that is typed without its name
    needed: Mapping[str, str]  # options without which there is nothing to do, and what to say where one is missing


def add_options(parser: argparse.ArgumentParser, kind: RunKind) -> None:
    """Declare the options of a command; only those that are typed get a value."""
    options = options_of(kind.config)
    names = sorted(options, key=lambda name: (name in _OF_TRAINING, name in _OF_RUNS))  # the command's own come first
    _add(parser, options[kind.positional], options, is_positional=True)
    for title in _GROUPS:
        group = parser.add_argument_group(title)
        for name in names:
            if options[name].group == title and options[name].is_spelled and name != kind.positional:
                _add(group, options[name], options)
        if title == "run":
            group.add_argument("--resume", action="store_true", help=_RESUME)
            group.add_argument("--config", type=Path, metavar="FILE", help="options in TOML")


def _add(group: Any, found: Option, options: Mapping[str, Option], *, is_positional: bool = False) -> None:
    text = spelled(found.help, lambda name, _: f"--{options[name].spelling}").replace("%", "%%")
    flags = ["-o"] * (found.name == "output") + [f"--{found.spelling}"]
    if found.kind.is_switch:
        action = group.add_argument(*flags, action=argparse.BooleanOptionalAction, dest=found.name, help=text)
        action.default = argparse.SUPPRESS
        return
    is_set = found.default not in {None, "", ()} or (found.default is None and found.kind.none)
    described = {
        "type": _reader(found, options),
        "default": argparse.SUPPRESS,
        "metavar": found.kind.metavar,
        "help": f"{text} (default: {found.text(found.default)})" if is_set else text,
    }
    if is_positional:
        group.add_argument(found.name, nargs="*" if found.kind.nargs else "?", **described)
    else:
        group.add_argument(*flags, dest=found.name, nargs=found.kind.nargs or None, **described)


def _reader(found: Option, options: Mapping[str, Option]) -> Callable[[str], Any]:
    """Return the type of an option as argparse takes it; of several arguments, that of each."""

    def write(name: str, value: str | None) -> str:
        if name == found.name and value not in {None, "None"}:
            return str(value)  # argparse names the option
        flag = f"--{options[name].spelling}" if name in options else name
        return f"{flag} {_word(name, value, options)}".rstrip()

    def read(text: str) -> Any:
        if found.kind.nargs and found.kind.each is not None:
            return found.kind.each.parse(text) if found.kind.each.parse else text
        try:
            return found.read(text)
        except ArgumentError as error:
            raise argparse.ArgumentTypeError(error.text(write)) from error

    return read


def _word(name: str, value: str | None, options: Mapping[str, Option], quote: Callable[[str], str] = str) -> str:
    """Return how a value of Python is given: None by the option's word for it."""
    if value == "None" and name in options and options[name].kind.none:
        return quote(options[name].kind.none)
    return value or ""


def make_config(args: argparse.Namespace, kind: RunKind) -> Any:
    """Return the configuration that the arguments ask for."""
    options = options_of(kind.config)
    typed = {name: found.check(getattr(args, name)) for name, found in options.items() if hasattr(args, name)}
    given = (_read(args.config, options) if args.config else {}) | typed
    if given.get("output") is None:
        raise CommandError("say where the run is to be written: -o DIR")
    saved = _saved(given, options) if args.resume else {}
    preset = PRESETS[given.get("preset", saved.get("preset", "csnet"))]
    values: dict[str, Any] = preset.values_for(kind.config)
    if "model" in options:
        values["model"] = preset.model
    if preset.has_pretrained_backbone:
        values["backbone_weights"] = "timm"
    values |= saved | given
    for name, message in kind.needed.items():
        if not values.get(name):
            raise CommandError(message)
    return kind.config(**values, checkpoints=values["output"] / CHECKPOINTS, keep_unpruned=True)


def _read(file: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    def quote(word: str) -> str:
        return f'"{word}"'

    def in_file(name: str, value: str | None) -> str:
        key = options[name].spelling if name in options else name
        return key if value is None else f"{key} = {_word(name, value, options, quote)}"

    try:
        return read_toml(file, options)
    except ArgumentError as error:
        raise CommandError(f"{file}: {error.text(in_file)}") from error
    except OSError as error:
        raise CommandError(f"{file}: cannot be read ({error.strerror or error}): check the path") from error
    except ValueError as error:
        raise CommandError(f"{file}: this is not TOML: {error}") from error
    except ImportError as error:
        raise CommandError("Python 3.10 cannot read TOML by itself: pip install tomli") from error


def _saved(given: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the options of the run that is to be resumed."""
    folder: Path = given["output"]
    if not (folder / CONFIG).is_file():
        raise CommandError(
            f"--resume: there is no run in {folder} (no {CONFIG}): check the path, or leave --resume out to begin one"
        )
    saved = _read(folder / CONFIG, options)
    different = [
        f"  {found.spelling} is {found.text(there)} there, {found.text(given[name])} here"
        for name, found in options.items()
        if name in given and found.resume == FIXED and (there := saved.get(name, found.default)) != given[name]
        if not (found.grows and given[name] > there)
    ]
    if different:
        raise CommandError(
            f"the run in {folder} has another configuration: leave these options out to go on with it, or begin anew "
            "in another folder:",
            *different,
        )
    return saved
