"""``goctconv learn``: train on photographs and masks, prune, fine-tune."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _distributed as distributed
from ..options import TEXT, option, paths
from ..saliency import SaliencyConfig, join_pairs, split_pairs
from ..saliency.data import warn_of_masks, with_rules
from ..saliency.learning import PRESETS
from ._command import Command, CommandError, deferred
from ._output import plural, say, shorten
from ._training_options import RunKind, RunOptions, add_options

if TYPE_CHECKING:
    import torch

    from ..saliency.data import DataSet, ImagePair
    from ..saliency.learning import Task
    from ._training_page import Target

_PRESETS = "\n".join(f"  {name:<8}{preset.summary}" for name, preset in PRESETS.items())
_DESCRIPTION = f"""\
Train a network with dynamic weight decay, remove the channels below a threshold, and fine-tune the rest. The defaults
are those of a preset:

{_PRESETS}

DATA_DIR is a folder or a list in a layout of goctconv evaluate. The run is written to DIR: the slim network (model),
report.html, pruning.html, plan.json, history.csv, history.jsonl, summary.json, config.toml with all options, and
checkpoints. A run that was interrupted goes on with --resume -o DIR as if it had not been; one that has ended goes on
with more --epochs or --finetune-epochs, as if they had been asked for at once.

Every option may stand in a file for --config, in TOML, such as batch-size = 24; the command line beats the file. To
train in several processes: torchrun --nproc-per-node 2 -m goctconv learn ..."""

_EXAMPLES = """\
examples:
  goctconv learn DUTS-TR -o run
  goctconv learn photos --model csnet_x1 --epochs 60 --threshold valley --size 96 -o run
  goctconv learn --config run.toml --lr 1e-3 -o run
  goctconv learn DUTS-TR --preset csf --backbone-rate 0.1 -o csf
  goctconv learn --resume -o run
  goctconv learn --resume -o run --epochs 330

exit status: 0 learned, 2 wrong arguments or data, a loss that is not finite, or a full disk, 130 interrupted,
143 terminated"""


@dataclass(frozen=True, kw_only=True)
class LearnConfig(SaliencyConfig, RunOptions):
    """All options of ``goctconv learn``."""

    data: tuple[Path, ...] = option(
        (), "folders or lists (.lst) of photographs and masks", paths("DATA_DIR"), group="data"
    )
    model: str = option(
        "csnet_x2", "name, or local-dir:DIR with its weights", replace(TEXT, metavar="NAME"), group="network"
    )


KIND = RunKind(
    "learn",
    LearnConfig,
    "data",
    {"data": "say what to learn from: goctconv learn DATA_DIR, with photographs and masks"},
)


def make_task(config: LearnConfig, device: torch.device) -> tuple[Task, Target]:
    """Return what is learned from, photographs and masks, and what maps are shown beside."""
    from ._training_page import TRUE_MASK  # noqa: PLC0415  (timm loads slowly, and --help does not need it)

    train: Sequence[ImagePair] | DataSet = _found(config, *config.data)
    validation: Sequence[ImagePair] | DataSet | None = None
    if isinstance(config.val, Path):
        validation = _found(config, config.val)
        _note_shared(train, validation, config)
    elif config.val:
        train, validation = split_pairs(train, config.val, seed=config.seed)
    return config.learning_task(train, validation, pin_memory=device.type == "cuda"), TRUE_MASK


def _found(config: LearnConfig, *sources: Path) -> DataSet:
    data, findings = with_rules(join_pairs(*sources), config.foreground)
    warn_of_masks(findings, kinds=True)
    if distributed.rank() == 0 and not config.quiet:
        for files, what in (
            (data.missing, "file of a list is missing"),
            (data.lone_masks, "mask without a photograph"),
            (data.lone_images, "photograph without a mask"),
        ):
            if files:
                say(f"goctconv: {data.name}: {what}, left out: {plural(len(files), 'file')}: {shorten(files, limit=5)}")
    if not data.pairs:
        raise CommandError(f"{data.name}: there is no photograph that has a mask")
    return data


def _note_shared(
    train: Sequence[ImagePair] | DataSet, validation: Sequence[ImagePair] | DataSet, config: LearnConfig
) -> None:
    photographs = {pair.image.resolve() for pair in train}
    shared = [pair.name for pair in validation if pair.image.resolve() in photographs]
    if shared and distributed.rank() == 0 and not config.quiet:
        say(f"goctconv: note: {plural(len(shared), 'photograph')} of --val are trained on too: {shorten(shared)}")


LEARN = Command(
    name="learn",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=functools.partial(add_options, kind=KIND),
    run=deferred("_training_run", "run_training", kind=KIND, prepare=make_task),
    names={"validation": "--val"},
)
