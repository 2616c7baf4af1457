"""The entry point: subcommands, and the exit statuses of their errors."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .._checks import ArgumentError
from .._version import __version__
from ._command import Command, CommandError, actions_of, spelling
from ._output import discard_stdout, escaping, notes, say, tell

COMMANDS = {
    "predict": "write saliency maps of photographs",
    "remove-background": "cut objects out of photographs",
    "evaluate": "compare saliency maps, or a model's, with masks",
    "learn": "learn the channels of a network: train, prune, fine-tune",
    "distill": "distill a large network into a small one",
    "info": "print a network's parameters, operations and widths",
    "prune": "remove channels from a trained network",
    "export": "write a trained network as ONNX or for OpenVINO",
    "bench": "measure how fast networks run on this machine",
    "demo": "train and prune a small network, and write a page about it",
    "completion": "print a script by which bash, zsh or fish completes commands",
}
"""The subcommands in the order of the help, with a line about each. A command's module is imported when the command is
asked for, so that ``goctconv --help`` needs no torch."""

_DESCRIPTION = "Light-weight salient object detection: which pixels of a photograph catch the eye."
_EXIT_CODES = (
    "exit status: 0 all done, 1 some photographs failed, 2 wrong arguments or weights, 130 interrupted, 143 terminated"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0 all done, 1 some photographs failed, 2 wrong arguments or weights, 130 interrupted, 143
        terminated.

    Raises:
        SystemExit: For ``--help`` and ``--version`` (status 0) and for arguments that do not parse (status 2).

    Example:
        >>> from goctconv.cli import main
        >>> main(["predict", "-", "--batch-size", "0"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    if argv is None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # PyTorch's own lines, of which none is for the user
    arguments = list(sys.argv[1:] if argv is None else argv)
    with escaping(sys.stdout), escaping(sys.stderr):
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    """Run a subcommand, and turn its errors into a message and an exit status."""
    args = argparse.Namespace()
    try:
        args = _parse(arguments)
        with notes(spelling(args), quiet=getattr(args, "quiet", False)):
            status: int = args.run(args)
            return status
    except CommandError as error:
        lines = list(map(str, error.args))
    except ArgumentError as error:
        lines = error.text(spelling(args)).splitlines()
    except (MemoryError, RuntimeError) as error:
        from .._torch import is_out_of_memory  # noqa: PLC0415  (needs torch, which the command has loaded by now)

        if not is_out_of_memory(error):
            raise
        lines = ["there is not enough memory: lower --size, --batch-size or --workers"]
    except KeyboardInterrupt as interrupt:
        say(f"goctconv: interrupted{interrupt}")
        return 130
    except BrokenPipeError:
        discard_stdout()  # its reader has gone: end quietly
        return 1
    for number, line in enumerate(lines):
        say(line if number else f"goctconv: error: {line}")
    return 2


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = build_parser(next((argument for argument in arguments if argument in COMMANDS), None))
    _refuse_empty(arguments)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        _refuse(args.parser, unknown)
    return args


class Parser(argparse.ArgumentParser):
    """A parser whose help fails where it cannot be written; argparse's own is silent then."""

    def print_help(self, file: Any = None) -> None:
        """Print the help, on standard output by default."""
        if file is None:
            tell(self.format_help().rstrip("\n"))
        else:
            super().print_help(file)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        tell(f"goctconv {__version__}")
        parser.exit()


def _show_help(args: argparse.Namespace) -> int:
    args.parser.print_help()
    return 0


def build_parser(command: str | None = None) -> Parser:
    """Build the parser of all subcommands, with the arguments of one of them."""
    parser = Parser(prog="goctconv", description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    parser.set_defaults(run=_show_help, parser=parser, names={})
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == command:
            _declare(subparser, load_command(name))
    return parser


def load_command(name: str) -> Command:
    """Import a subcommand."""
    module = name.replace("-", "_")
    is_file = Path(__file__).with_name(f"_{module}.py").is_file()
    found: Command = getattr(importlib.import_module(f".{'_' * is_file}{module}", __package__), module.upper())
    return found


def _declare(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.description, parser.epilog = _fill(command.description), _fill(command.examples)
    command.add_arguments(parser)
    parser.set_defaults(run=command.run, parser=parser, names=command.names)


_MAY_BE_EMPTY = "--model-args"  # which may hold none


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse empty arguments, such as those of a shell's unset variables: as a path, one would be the working folder.

    Raises:
        CommandError: There is one; the message names the option, or the argument before it.
    """
    before = "goctconv"
    for argument in arguments:
        option, equals, value = argument.partition("=")
        is_option = argument.startswith("--") and bool(equals)
        if (not argument and before != _MAY_BE_EMPTY) or (is_option and not value and option != _MAY_BE_EMPTY):
            where = option if is_option else before
            raise CommandError(f"the argument after {where} is empty (''): give it a value; an unset variable has none")
        before = argument


def _refuse(parser: argparse.ArgumentParser, unknown: list[str]) -> NoReturn:
    """Say which arguments the command does not have, and which it has that look like them."""
    known = sorted(option for action in actions_of(parser) for option in action.option_strings)
    hints = []
    for argument in unknown:
        near = difflib.get_close_matches(argument.partition("=")[0], known, n=1)
        hints.append(f"{argument} (did you mean {near[0]}?)" if near else argument)
    say(f"goctconv: error: {parser.prog} has no {', '.join(hints)}; {parser.prog} --help lists what it has")
    raise SystemExit(2)


def _fill(text: str) -> str:
    """Wrap the paragraphs of a help text to the terminal, as argparse does; of lists with indented lines, each line."""
    return "\n\n".join(
        "\n".join(map(_wrap, paragraph.splitlines())) if "\n  " in paragraph else _wrap(paragraph)
        for paragraph in text.split("\n\n")
    )


def _wrap(text: str) -> str:
    """Wrap text to the terminal, unless it is a command to copy."""
    if text.startswith("  goctconv "):
        return text
    width = max(shutil.get_terminal_size().columns - 2, 20)
    indent = "    " if text.startswith("  ") else ""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
