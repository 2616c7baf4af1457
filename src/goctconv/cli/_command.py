"""What a subcommand is."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


class CommandError(ValueError):
    """The command cannot run; its arguments are the lines that the user sees."""


@dataclass(frozen=True)
class Command:
    """A subcommand of ``goctconv``.

    Args:
        name: As typed.
        summary: One line for ``goctconv --help``.
        description: The first paragraph of the subcommand's own help.
        examples: The last paragraph of it.
        add_arguments: Declares the arguments. Must not import timm, Pillow or the networks: help should come at
            once.
        run: Does the work and returns the exit status.
    """

    name: str
    summary: str
    description: str
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
