"""Subcommands, and errors of arguments in the words of the command line."""

from __future__ import annotations

import argparse
import ast
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._checks import Spelling, in_python


class CommandError(ValueError):
    """The command cannot run; its arguments are the lines that the user sees."""


@dataclass(frozen=True)
class Command:
    """A subcommand of ``goctconv``."""

    name: str
    description: str  # the first paragraph of its help
    examples: str  # the last one
    # Help comes at once where this imports neither torch nor timm nor Pillow; learn and distill read their options from
    # dataclasses, which import torch.
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit status
    names: Mapping[str, str] = field(default_factory=dict)  # {"checkpoint_path": "--weights"}, where names differ


def deferred(module: str, function: str, **options: Any) -> Callable[[argparse.Namespace], int]:
    """Return a function of a module of this package, imported when it is called: --help needs no torch and no timm."""

    def run(args: argparse.Namespace) -> int:
        status: int = getattr(importlib.import_module(f".{module}", __package__), function)(args, **options)
        return status

    return run


def spelling(args: argparse.Namespace) -> Spelling:
    """Return how the command writes an argument with its value, as `ArgumentError.text` takes it."""
    options = {action.dest: _label(action) for action in actions_of(args.parser)} | dict(args.names)
    switches = {label for action in actions_of(args.parser) for label in action.option_strings if action.nargs == 0}

    def write(name: str, value: str | None) -> str:
        if name not in options:
            return in_python(name, value)
        option = options[name]
        if value is None or value == "True":
            return option
        if value == "False":
            negated = f"--no-{option.removeprefix('--')}"
            return negated if negated in switches else f"no {option}"
        if value.startswith("<"):  # an object, which nobody has typed
            given = getattr(args, name, None)
            return option if given is None else f"{option} {given}"
        return f"{option} {_typed(value)}".rstrip()

    return write


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a parser."""
    return parser._actions  # noqa: SLF001  (argparse has no public list of them)


def _label(action: argparse.Action) -> str:
    long = [option for option in action.option_strings if option.startswith("--")]
    return (long or [str(action.metavar or action.dest)])[0]


def _typed(value: str) -> str:
    """Write a value of Python as it is typed."""
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    if isinstance(found, tuple | list):
        return ",".join(map(str, found))
    return "none" if found is None else str(found)
