"""Sphinx configuration: ``sphinx-build -W --keep-going -b html docs docs/_build/html``; needs no network."""

import contextlib
import inspect
import io
import os
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from torch import nn

import goctconv
from goctconv.cli import main

os.environ["COLUMNS"] = "88"  # the width of the help texts, which argparse takes from the terminal

project = "goctconv"
copyright = "the goctconv developers"  # noqa: A001  # the name that Sphinx reads
version = release = goctconv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"goctconv {release}"

default_role = "py:obj"  # `name` in a docstring links where there is something to link to
add_module_names = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "notes_style")]
autodoc_default_options = {"members": True, "exclude-members": "extra_repr", "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_type_aliases = {"Channels": "Channels"}


def show_all_parameters(layer: type[nn.Module]) -> None:
    """Show the parameters that a constructor passes on, too.

    autodoc takes defaults from the source of a function (``autodoc_preserve_defaults``) and fails where the signature
    has more of them than the source (Sphinx 9.0); here the source has none.
    """
    original = layer.__init__

    def initialize(self: nn.Module, *args: Any, **options: Any) -> None:
        original(self, *args, **options)

    initialize.__signature__ = inspect.signature(original)
    layer.__init__ = initialize


for layer in (goctconv.CrossStageGOctConv, goctconv.OctConv):
    show_all_parameters(layer)


class CommandHelp(Directive):
    """Show what ``goctconv ARGUMENTS --help`` prints, so that the page cannot differ from the program."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*self.arguments, "--help"])
        return [nodes.literal_block(text=printed.getvalue(), language="text")]


def setup(app: Sphinx) -> None:
    app.add_directive("command-help", CommandHelp)
