"""Outcome of a demo's training: baselines, the summary, the page, and the files."""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...layers import ILBlock
from ...models import CSNet
from ...report import training_page
from ...saliency.data import SaliencyLoader, Split
from ...saliency.metrics import SaliencyMetrics
from ...training import TrainingResult
from .._learned import Proof, example_of, figures
from .._model import input_size
from .._output import plural, write_file, writing

_CLEARLY = 0.8  # of the error of the best map for all pictures, which the network has to reach
_SHOWN = 8


@dataclass(frozen=True)
class Baselines:
    """Mean absolute errors without a network.

    Attributes:
        constant: Of the best constant, the same for every pixel of every picture.
        fixed: Of the best map for the training pictures, the same for every picture.
    """

    constant: float
    fixed: float

    def are_beaten_by(self, mae: float) -> bool:
        """Return whether an error is clearly below both."""
        return mae <= _CLEARLY * min(self.constant, self.fixed)


def measure_baselines(training: SaliencyLoader, validation: SaliencyLoader) -> Baselines:
    """Return the errors of one map for all pictures: medians, which minimise the absolute error."""
    masks = _masks(validation)
    median = _masks(training).median(dim=0, keepdim=True).values
    return Baselines(_mae(masks.median().expand_as(masks), masks), _mae(median.expand_as(masks), masks))


def _masks(loader: SaliencyLoader) -> Tensor:
    return torch.cat([batch.masks for batch in loader])


def _mae(maps: Tensor, masks: Tensor) -> float:
    metrics = SaliencyMetrics(metrics=("mae",))
    metrics.update(maps, masks)
    return float(metrics.compute().scores()["mae"])


@dataclass(frozen=True)
class Outcome:
    """The networks before and after pruning, with their scores.

    Attributes:
        name: The model's.
        seed: Of everything.
        unpruned: The trained network.
        slim: The pruned and fine-tuned one.
        result: Of training.
        scores: ``mae`` and ``max_f`` of both networks.
        baselines: Errors that the slim network has to beat.
        proof: How exact pruning was.
    """

    name: str
    seed: int
    unpruned: CSNet
    slim: CSNet
    result: TrainingResult
    scores: tuple[Mapping[str, float], Mapping[str, float]]
    baselines: Baselines
    proof: Proof

    @property
    def is_good(self) -> bool:
        """Whether the slim network is clearly better than one map for all pictures."""
        return self.baselines.are_beaten_by(self.scores[1]["mae"])

    def warning(self) -> str:
        """Return what did not succeed; nothing if all did."""
        warnings = []
        if not self.result.report.removed:
            below = f"no γ is below the threshold {self.result.threshold:g}"
            warnings.append(f"{below}, so no channel was removed: give it more --epochs")
        if not self.is_good:
            least = min(self.baselines.constant, self.baselines.fixed)
            warnings.append(
                f"the slim network's MAE of {self.scores[1]['mae']:.4f} is not clearly better ({_CLEARLY:g} times or "
                f"less) than {least:.4f}, the MAE of one map for all pictures: give it more --epochs or more pictures"
            )
        return "; ".join(warnings)

    def verdict(self) -> str:
        """Return how the slim network compares, in a sentence."""
        share = self.went(self.result.report.parameters)
        return (
            f"The slim network has an MAE of {self.scores[1]['mae']:.4f} (before pruning {self.scores[0]['mae']:.4f}); "
            f"the best constant map has {self.baselines.constant:.4f}, the best map that is the same for all pictures "
            f"{self.baselines.fixed:.4f}. Of its parameters, {share:.1%} went."
        )

    def summary(self, seconds: float, page: Path) -> str:
        """Return the last lines that the command prints."""
        report = self.result.report
        rows = [
            ("", "before", "after"),
            ("parameters", *(f"{count:,}" for count in report.parameters)),
            ("MACs", *(f"{count:,}" for count in report.macs)),
            ("MAE", *(f"{scores['mae']:.4f}" for scores in self.scores)),
            ("max F", *(f"{scores['max_f']:.4f}" for scores in self.scores)),
        ]
        if report.milliseconds:
            rows.insert(3, ("ms per picture", *(f"{time:.1f}" for time in report.milliseconds)))
        table = "\n".join(f"{name:<16}{before:>14}{after:>14}" for name, before, after in rows)
        return (
            f"with BatchNorm's statistics measured anew for both:\n{table}\nmasking channels below the threshold "
            f"changed maps by {self.proof.masked:.1e} on average; removing them then changed outputs by at most "
            f"{self.proof.cut:.1e} of the largest (float64)\n{self.verdict()}\n{seconds:.0f} s in all: open {page}"
        )

    @staticmethod
    def went(counts: tuple[int, int]) -> float:
        """Return the share that is gone."""
        return 1 - counts[1] / counts[0]


def write_results(args: argparse.Namespace, split: Split, outcome: Outcome) -> None:
    """Write all files of a demo that trains.

    Raises:
        CommandError: They cannot be written.
    """
    folder = args.output
    with writing(f"--output {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        outcome.slim.save_pretrained(folder / "model")
        outcome.unpruned.save_pretrained(folder / "unpruned")
        outcome.result.history.to_csv(folder / "history.csv")
        outcome.result.plan.save(folder / "plan.json")
    write_file(folder / "report.html", _page(args, split, outcome))


def _page(args: argparse.Namespace, split: Split, outcome: Outcome) -> str:
    kind = "photograph" if args.data else "made-up picture"
    history = outcome.result.history
    blocks = sum(isinstance(module, ILBlock) for module in outcome.unpruned.modules())
    size = "x".join(map(str, input_size(args.size)))
    networks = {"map before pruning": outcome.unpruned, "map after": outcome.slim}
    return training_page(
        "Training of a small network",
        subtitle=(
            f"{outcome.name} with {blocks} blocks and {outcome.result.report.parameters[0]:,} parameters, "
            f"{len(history.epochs)} epochs of {plural(len(split.train), kind)} at {size}, compared on "
            f"{len(split.validation)} others, seed {outcome.seed}"
        ),
        note=outcome.verdict() + _sentence(outcome.warning()),
        warning=bool(outcome.warning()),
        numbers=_numbers(outcome),
        proof=outcome.proof.numbers(outcome.result.report),
        command=_command(args, outcome),
        pictures=figures(
            outcome.name,
            history,
            outcome.unpruned,
            {"before": outcome.unpruned, "after": outcome.slim},
            outcome.result.threshold,
        ),
        examples=[example for pair in split.validation[:_SHOWN] if (example := example_of(pair, networks, args.size))],
    )


def _sentence(text: str) -> str:
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _numbers(outcome: Outcome) -> dict[str, tuple[float | None, float | None]]:
    report, (before, after) = outcome.result.report, outcome.scores
    return {
        "parameters": report.parameters,
        "MACs": report.macs,
        "channels of BatchNorm": (report.channels, report.channels - report.removed),
        "milliseconds per picture": report.milliseconds or (None, None),
        "MAE": (before["mae"], after["mae"]),
        "max F": (before["max_f"], after["max_f"]),
    }


def _command(args: argparse.Namespace, outcome: Outcome) -> str:
    folder = args.output
    parts = ["goctconv", "prune", f"local-dir:{folder / 'unpruned'}", "--threshold", f"{outcome.result.threshold:g}"]
    size = args.size if isinstance(args.size, int) else "x".join(map(str, args.size))
    parts += ["--criterion", "gamma_first", "--size", str(size), "-o", str(folder / "again")]
    return shlex.join(parts)
