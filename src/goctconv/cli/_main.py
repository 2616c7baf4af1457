"""From the command line to a subcommand, and from its errors to an exit status."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from .._version import __version__
from ._command import Command, CommandError
from ._demo import DEMO
from ._evaluate import EVALUATE
from ._export import EXPORT
from ._info import INFO
from ._predict import PREDICT

COMMANDS: tuple[Command, ...] = (PREDICT, EVALUATE, INFO, EXPORT, DEMO)

_DESCRIPTION = "Light-weight salient object detection: which pixels of a photograph catch the eye."
_EXIT_CODES = "exit status: 0 all done, 1 some photographs failed, 2 wrong arguments or weights, 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0 all done, 1 some photographs failed, 2 wrong arguments or weights, 130 interrupted.

    Raises:
        SystemExit: For ``--help`` and ``--version`` (status 0) and for arguments that do not parse (status 2).

    Example:
        >>> from goctconv.cli import main
        >>> main(["predict", "-", "--batch-size", "0"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return 0
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # on metadata that it can do without
            status: int = args.run(args)
    except CommandError as error:
        print(f"goctconv: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"goctconv: interrupted{interrupt}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone: end quietly, and keep Python from complaining when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="goctconv", description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"goctconv {__version__}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=command.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser
