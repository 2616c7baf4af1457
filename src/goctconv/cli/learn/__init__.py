"""``goctconv learn``: its arguments."""

import argparse
from pathlib import Path
from typing import Any

from .._command import Command
from ._options import DATA, GROUPS, Option, absolute_path
from ._presets import PRESETS

_PRESETS = "\n".join(f"  {name:<8}{preset.summary}" for name, preset in PRESETS.items())
_DESCRIPTION = f"""\
Learn the channels of a network: train it on photographs and masks with dynamic weight decay, which lets channels fade
that are of no use, remove these, and fine-tune what is left. The defaults are those of a preset:

{_PRESETS}

DATA_DIR is a folder or a list in a layout of goctconv evaluate. The run is written to DIR: the slim network (model),
report.html, pruning.html, plan.json, history.csv, history.jsonl, summary.json, config.toml with all options, and
checkpoints. A run that was interrupted goes on with --resume -o DIR as if it had not been.

Every option may stand in a file for --config, in TOML, such as batch-size = 24; the command line beats the file. To
train in several processes: torchrun --nproc-per-node 2 -m goctconv learn ..."""

_EXAMPLES = """\
examples:
  goctconv learn DUTS-TR -o run
  goctconv learn photos --model csnet_x1 --epochs 60 --threshold valley --size 96 -o run
  goctconv learn --config run.toml --lr 1e-3 -o run
  goctconv learn DUTS-TR --preset csf --backbone-rate 0.1 -o csf
  goctconv learn --resume -o run

exit status: 0 learned, 2 wrong arguments or data, a loss that is not finite, or a full disk, 130 interrupted,
143 terminated"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="*", type=absolute_path, default=argparse.SUPPRESS, metavar=DATA.metavar, help=DATA.help
    )
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
        if title == "run":
            group.add_argument("--resume", action="store_true", help="go on with the run in DIR")
            group.add_argument("--config", type=Path, metavar="FILE", help="options in TOML")


def add_option(group: Any, option: Option) -> None:
    """Declare an option, so that what was typed is told from what was not."""
    names = (["-o"] if option.name == "output" else []) + [f"--{option.name}"]
    if option.is_switch:
        action = group.add_argument(*names, action=argparse.BooleanOptionalAction, help=option.help)
        action.default = argparse.SUPPRESS  # so that what was typed is told from what was not
        return
    default = option.default
    text = ",".join(f"{one:g}" for one in default) if isinstance(default, tuple) else default
    shown = "" if default is None else f" (default: {text})"
    group.add_argument(
        *names, type=option.parse, default=argparse.SUPPRESS, metavar=option.metavar, help=f"{option.help}{shown}"
    )


def _start(args: argparse.Namespace) -> int:
    from ._run import run_learn  # noqa: PLC0415  (timm and Pillow load slowly, and --help needs neither)

    return run_learn(args)


LEARN = Command(
    name="learn",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_start,
)
