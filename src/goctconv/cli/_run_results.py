"""Results that ``goctconv learn`` and ``goctconv distill`` write: the network, the summary and the page about a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..models import save_pruned
from ..models.hub import PLAN, whole_plan
from ..options import FREE, options_of
from ..report import pruning_page, training_page
from ..saliency.data import BothLoaders
from ..training import TrainingResult
from ._command import CommandError
from ._learned import Proof, Target, example_of, figures, prove
from ._output import plural, write_file, writing

MODEL, PRUNED, REPORT, REASONS = "model", "pruned.json", "report.html", "pruning.html"
_SCORES = {"mae": "MAE", "max_f": "max F", "teacher_mae": "to teacher"}
_SHOWN = 8  # examples on the page
_PROVED_ON = 16  # photographs


def write_results(config: Any, result: TrainingResult, summary: dict[str, Any]) -> None:
    """Write the slim network, its plan, the history and the summary."""
    folder, plan = config.output, whole_plan(config.model, result.plan)
    result.history.to_csv(folder / "history.csv")
    result.history.to_jsonl(folder / "history.jsonl")
    try:
        with writing(folder / MODEL):
            save_pruned(result.model, folder / MODEL, plan)
            plan.save(folder / PLAN)
    except (ValueError, TypeError) as error:
        raise CommandError(
            f"{folder / MODEL}: the network cannot be saved: {error}", "the last checkpoint has its weights"
        ) from error
    write_file(folder / "summary.json", json.dumps(summary, indent=1))


def read_json(path: Path) -> Any:
    """Return what a file of the run holds."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: cannot be read ({error})") from error


def summarize(
    config: Any,
    result: TrainingResult,
    *,
    pairs: dict[str, list[str]],
    macs: tuple[int, int],
    skipped: dict[str, str],
) -> dict[str, Any]:
    """Return the numbers of a run, ready for JSON."""
    records = {record.phase: record for record in result.history.epochs}  # the last of each phase
    path = config.output / PRUNED
    scores = {
        "before": records["train"].validation if "train" in records else {},
        "pruned": read_json(path) if path.exists() else {},
        "finetuned": records["finetune"].validation if "finetune" in records else {},
    }
    report = result.report
    return {
        "model": config.model,
        **({"teacher": teacher} if (teacher := getattr(config, "teacher", None)) else {}),
        "output": str(config.output),
        "pairs": {part: sum(name not in skipped for name in names) for part, names in pairs.items()},
        "epochs": {phase: len(result.history.series("epoch", phase)) for phase in ("train", "finetune")},
        "threshold": result.threshold,
        "channels": {"before": report.channels, "masked": report.masked, "removed": report.removed},
        "parameters": list(report.parameters),
        "macs": list(macs),
        "scores": scores,
        "difference": dict(report.difference),
        "skipped": skipped,
        "options": {
            found.spelling: found.text(getattr(config, name))
            for name, found in options_of(type(config)).items()
            if found.is_spelled and found.resume != FREE
        },
    }


def as_table(summary: dict[str, Any], changed: Mapping[str, str]) -> str:
    """Return the numbers of a run as text, and the options that are not the defaults."""
    channels, epochs, (before, after) = summary["channels"], summary["epochs"], summary["parameters"]
    is_pruned = summary["threshold"] is not None
    took = f"{epochs['train']} + {epochs['finetune']} epochs" if is_pruned else plural(epochs["train"], "epoch")
    lines = [
        f"{summary['model']} learned from {_source(summary)} in {took}{'' if is_pruned else '; all channels stay'}"
    ]
    if is_pruned:
        went = f"{channels['removed']} of {channels['before']} channels went, with scores below"
        lines.append(f"{went} {summary['threshold']:g}: {1 - after / before:.1%} of the parameters")
        lines.append(_row("", "before", "pruned", "fine-tuned"))
    columns = 3 if is_pruned else 1
    for name, numbers in (("parameters", summary["parameters"]), ("MACs", summary["macs"])):
        lines.append(_row(name, *(f"{numbers[index]:,}" for index in (0, 1, 1)[:columns])))
    for key, name in _SCORES.items():
        values = [scores.get(key) for scores in summary["scores"].values()][:columns]
        if any(value is not None for value in values):
            lines.append(_row(name, *("-" if value is None else f"{value:.4f}" for value in values)))
    if options := ", ".join(f"{name} {value}" for name, value in changed.items() if name in summary["options"]):
        lines.append(f"options: {options}")
    return "\n".join(lines)


def _source(summary: dict[str, Any]) -> str:
    teacher, count = summary.get("teacher"), summary["pairs"]["train"]
    return f"{teacher} on {count} photographs" if teacher else f"{count} pairs"


def _row(name: str, *cells: str) -> str:
    return f"{name:<10}" + "".join(f"{cell:>15}" for cell in cells)


def write_report(
    config: Any,
    result: TrainingResult,
    before: nn.Module | None,
    loaders: BothLoaders,
    target: Target,
    summary: dict[str, Any],
) -> None:
    """Write the pages about a run and about what was removed; ``before`` is the network before pruning, if known."""
    networks = {"map": result.model} if before is None else {"map before pruning": before, "map after": result.model}
    pairs = (loaders.validation or loaders.train).pairs
    examples = (example_of(pair, networks, config.sizes[0], target) for pair in pairs)
    parts: dict[str, Any] = {
        "subtitle": _subtitle(config, summary),
        "note": _note(summary),
        "warning": not summary["channels"]["removed"],
        "numbers": _numbers(summary),
        "proof": {} if before is None else _proof(result, before, loaders).numbers(result.report),
        "pictures": figures(config.model, result.history, before, result.report, result.threshold),
        "examples": list(itertools.islice((example for example in examples if example is not None), _SHOWN)),
    }
    seen = "" if loaders.validation is not None else " (photographs that it was trained on)"
    title = f"Training of {config.model}{seen}"
    try:
        page = training_page(title, **parts)
    except ValueError:  # too large: a network of very many layers
        page = training_page(title, **parts | {"examples": ()}, max_bytes=None)
    write_file(config.output / REPORT, page)
    write_file(config.output / REASONS, pruning_page(result.report, f"Channels removed from {config.model}"))


def _proof(result: TrainingResult, before: nn.Module, loaders: BothLoaders) -> Proof:
    batches: list[Tensor] = []
    for batch in loaders.validation or loaders.train:
        batches.append(batch.images[: _PROVED_ON - sum(map(len, batches))])
        if sum(map(len, batches)) >= _PROVED_ON:
            break
    return prove(before, result.plan, batches)


def _subtitle(config: Any, summary: dict[str, Any]) -> str:
    epochs, pairs = summary["epochs"], summary["pairs"]
    sizes = ", ".join("x".join(map(str, size)) if isinstance(size, tuple) else str(size) for size in config.sizes)
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
