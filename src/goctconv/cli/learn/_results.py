"""``goctconv learn``: what a run ends with."""

import json
from typing import Any

from ...models import save_pruned
from ...models.hub import PLAN, whole_plan
from ...training import TrainingResult
from .._command import CommandError
from .._output import plural, write_file, writing
from ._config import Config
from ._folder import read_json
from ._scores import PRUNED

MODEL = "model"
_SCORES = {"mae": "MAE", "max_f": "max F", "teacher_mae": "to teacher"}


def write_results(config: Config, result: TrainingResult, summary: dict[str, Any]) -> None:
    """Write the slim network, its plan, the history and the summary.

    Raises:
        CommandError: Something cannot be written.
    """
    folder, plan = config.output, whole_plan(config.model, result.plan)
    result.history.to_csv(folder / "history.csv")
    result.history.to_jsonl(folder / "history.jsonl")
    try:
        with writing(folder / MODEL):
            save_pruned(result.model, folder / MODEL, plan)
            plan.save(folder / PLAN)
    except (ValueError, TypeError) as error:
        raise CommandError(
            f"{folder / MODEL}: the network cannot be saved: {error}", "the last checkpoint has its weights."
        ) from error
    write_file(folder / "summary.json", json.dumps(summary, indent=1))


def summarize(
    config: Config,
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
        "epochs": {phase: sum(one.phase == phase for one in result.history.epochs) for phase in ("train", "finetune")},
        "threshold": result.threshold,
        "channels": {"before": report.channels, "faded": report.masked, "removed": report.removed},
        "parameters": list(report.parameters),
        "macs": list(macs),
        "scores": scores,
        "difference": dict(report.difference),
        "skipped": skipped,
    }


def as_table(summary: dict[str, Any]) -> str:
    """Return the numbers of a run as text."""
    if summary["threshold"] is None:
        return _as_short_table(summary)
    channels, epochs = summary["channels"], summary["epochs"]
    before, after = summary["parameters"]
    went = (
        f"{channels['removed']} of {channels['before']} channels went, with scores below {summary['threshold']:g}: "
        f"{1 - after / before:.1%} of the parameters"
    )
    lines = [
        f"{summary['model']} learned from {_source(summary)} in {epochs['train']} + {epochs['finetune']} epochs",
        went,
        _row("", "before", "pruned", "fine-tuned"),
        _row("parameters", f"{before:,}", f"{after:,}", f"{after:,}"),
        _row("MACs", f"{summary['macs'][0]:,}", f"{summary['macs'][1]:,}", f"{summary['macs'][1]:,}"),
    ]
    for key, name in _SCORES.items():
        values = [scores.get(key) for scores in summary["scores"].values()]
        if any(value is not None for value in values):
            lines.append(_row(name, *("-" if value is None else f"{value:.4f}" for value in values)))
    return "\n".join(lines)


def _as_short_table(summary: dict[str, Any]) -> str:
    """Return the numbers of a run that removed no channels."""
    scores, epochs = summary["scores"]["before"], summary["epochs"]["train"]
    return "\n".join(
        [
            f"{summary['model']} learned from {_source(summary)} in {plural(epochs, 'epoch')}; all channels stay",
            _row("parameters", f"{summary['parameters'][0]:,}"),
            _row("MACs", f"{summary['macs'][0]:,}"),
            *(_row(name, f"{scores[key]:.4f}") for key, name in _SCORES.items() if key in scores),
        ]
    )


def _source(summary: dict[str, Any]) -> str:
    teacher, count = summary.get("teacher"), summary["pairs"]["train"]
    return f"{teacher} on {count} photographs" if teacher else f"{count} pairs"


def _row(name: str, *cells: str) -> str:
    return f"{name:<10}" + "".join(f"{cell:>15}" for cell in cells)
