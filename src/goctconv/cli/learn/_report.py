"""``goctconv learn``: the pages about a run."""

import itertools
from typing import Any

from torch import Tensor, nn

from ...report import pruning_page, training_page
from ...saliency.data import BothLoaders
from ...training import TrainingResult
from .._learned import Proof, example_of, figures, prove
from .._output import plural, write_file
from ._config import Config
from ._lessons import Lessons

REPORT, REASONS = "report.html", "pruning.html"
_SHOWN = 8
_PROVED_ON = 16  # pictures


def write_report(
    config: Config, result: TrainingResult, before: nn.Module | None, lessons: Lessons, summary: dict[str, Any]
) -> None:
    """Write what was learned, and why which channels went.

    Args:
        config: Of the run.
        result: What came of it; its network is on the processor.
        before: The trained network before pruning, on the processor, if it is known.
        lessons: Where photographs come from, and what their maps should be.
        summary: The numbers that the run ends with.

    Raises:
        CommandError: They cannot be written.
    """
    write_file(config.output / REASONS, pruning_page(result.report, f"Channels removed from {config.model}"))
    write_file(config.output / REPORT, _page(config, result, before, lessons, summary))


def _page(
    config: Config, result: TrainingResult, before: nn.Module | None, lessons: Lessons, summary: dict[str, Any]
) -> str:
    networks = {"map": result.model} if before is None else {"map before pruning": before, "map after": result.model}
    pairs, compared = _pairs(lessons.loaders)
    found = (example_of(pair, networks, config.size[0], lessons.target) for pair in pairs)
    parts: dict[str, Any] = {
        "subtitle": _subtitle(config, summary),
        "note": _note(summary),
        "warning": not summary["channels"]["removed"],
        "numbers": _numbers(summary),
        "proof": _proof(result, before, lessons.loaders).numbers(result.report) if before is not None else {},
        "pictures": figures(config.model, result.history, before, result.report, result.threshold),
        "examples": list(itertools.islice((example for example in found if example is not None), _SHOWN)),
    }
    title = f"Training of {config.model}" + ("" if compared else " (photographs that it was trained on)")
    try:
        return training_page(title, **parts)
    except ValueError:  # too large: a network of very many layers
        return training_page(title, **parts | {"examples": ()}, max_bytes=None)


def _pairs(loaders: BothLoaders) -> tuple[Any, bool]:
    """Return the pairs to show, and whether the network has not learned from them."""
    if loaders.validation is not None:
        return loaders.validation.pairs, True
    return loaders.train.pairs, False


def _proof(result: TrainingResult, before: nn.Module, loaders: BothLoaders) -> Proof:
    batches: list[Tensor] = []
    for batch in loaders.validation or loaders.train:
        batches.append(batch.images[: _PROVED_ON - sum(map(len, batches))])
        if sum(map(len, batches)) >= _PROVED_ON:
            break
    return prove(before, result.plan, batches)


def _subtitle(config: Config, summary: dict[str, Any]) -> str:
    epochs, pairs = summary["epochs"], summary["pairs"]
    sizes = ", ".join("x".join(map(str, size)) if isinstance(size, tuple) else str(size) for size in config.size)
    compared = f", compared on {pairs['validation']} others" if pairs["validation"] else ""
    decay = " with dynamic weight decay" if config.weight_decay else ""
    taught = f", taught by {summary['teacher']}" if "teacher" in summary else ""
    return (
        f"{plural(epochs['train'], 'epoch')}{decay} and {epochs['finetune']} of fine-tuning on "
        f"{plural(pairs['train'], 'photograph')} at {sizes}{taught}{compared}, seed {config.seed}"
    )


def _note(summary: dict[str, Any]) -> str:
    channels, (before, after) = summary["channels"], summary["parameters"]
    text = (
        f"{channels['removed']} of {channels['before']} channels went, and with them {1 - after / before:.1%} of the "
        f"parameters; `{REASONS}` tells which, and why others stayed."
    )
    if not channels["removed"]:
        text = "Nothing was removed: no channel has a score below the threshold."
    skipped = summary["skipped"]
    return text + (f" {plural(len(skipped), 'pair')} could not be read and were skipped." if skipped else "")


def _numbers(summary: dict[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    channels, scores = summary["channels"], summary["scores"]
    after = scores["finetuned"] or scores["pruned"]
    numbers: dict[str, tuple[float | None, float | None]] = {
        "parameters": tuple(summary["parameters"]),
        "MACs": tuple(summary["macs"]),
        "channels of BatchNorm": (channels["before"], channels["before"] - channels["removed"]),
    }
    for key, name in (("mae", "MAE"), ("max_f", "max F"), ("teacher_mae", "distance to the teacher's maps")):
        if key in scores["before"] or key in after:
            numbers[name] = (scores["before"].get(key), after.get(key))
    return numbers
