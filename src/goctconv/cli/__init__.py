"""The command line, ``goctconv``."""

from ._main import main as main

__all__ = ["main"]
