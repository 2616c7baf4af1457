"""From the command line to a subcommand, and from its errors to an exit status."""

import argparse
import difflib
import re
import shutil
import textwrap
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .._version import __version__
from ._command import Command, CommandError
from ._memory import out_of_memory
from ._messages import discard_stdout, say
from .bench import BENCH
from .demo import DEMO
from .distill import DISTILL
from .evaluate import EVALUATE
from .export import EXPORT
from .info import INFO
from .learn import LEARN
from .predict import PREDICT
from .prune import PRUNE

COMMANDS: tuple[Command, ...] = (PREDICT, EVALUATE, LEARN, DISTILL, INFO, PRUNE, EXPORT, BENCH, DEMO)

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
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(args.parser, unknown)
    if args.run is None:
        parser.print_help()
        return 0
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # on metadata that it can do without
            status: int = args.run(args)
    except CommandError as error:
        for number, line in enumerate(error.args):
            say(line if number else f"goctconv: error: {line}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        say("goctconv: error: there is not enough memory: lower --size, --batch-size or --workers.")
        return 2
    except KeyboardInterrupt as interrupt:
        say(f"goctconv: interrupted{interrupt}")
        return 130
    except BrokenPipeError:
        discard_stdout()  # its reader has gone: end quietly
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="goctconv", description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"goctconv {__version__}")
    parser.set_defaults(run=None, parser=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=_fill(command.description),
            epilog=_fill(command.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, parser=subparser)
    return parser


def _refuse(parser: argparse.ArgumentParser, unknown: list[str]) -> NoReturn:
    """Say which arguments the command does not have, and which it has that look like them."""
    names = parser.format_help()  # argparse has no public list of options
    known = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", names)))
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
