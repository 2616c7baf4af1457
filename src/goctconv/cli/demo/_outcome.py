"""Outcome of a demo's training: baselines, the summary, the page, and the files."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ...layers import ILBlock
from ...models import CSNet
from ...report import training_page
from ...saliency.metrics import SaliencyMetrics
from ...training import TrainingResult
from .._model import input_size
from .._output import plural, write_file, writing
from .._training_page import Proof, example_of, figures

if TYPE_CHECKING:
    from ...saliency.data import SaliencyLoader, Split

_CLEARLY = 0.8  # of the error of the best map for all pictures, which the network has to reach
_SHOWN = 8


class Baselines(NamedTuple):
    """Mean absolute errors without a network."""

    constant: float  # of the best constant, the same for every pixel of every picture
    fixed: float  # of the best map for the training pictures, the same for every picture

    def are_beaten_by(self, mae: float) -> bool:
        """Return whether an error is clearly below both."""
        return mae <= _CLEARLY * min(self)


def measure_baselines(training: SaliencyLoader, validation: SaliencyLoader) -> Baselines:
    """Return the errors of one map for all pictures: medians, which minimise the absolute error."""
    masks, learned_from = (torch.cat([batch.masks for batch in loader]) for loader in (validation, training))
    median = learned_from.nanmedian(dim=0, keepdim=True).values.nan_to_num(0.0)
    maps = (masks.nanmedian().expand_as(masks), median.expand_as(masks))
    return Baselines(*(_scores([(found, masks)], "mae")["mae"] for found in maps))


@torch.no_grad()
def scores_of(model: nn.Module, loader: SaliencyLoader) -> dict[str, float]:
    """Return ``mae`` and ``max_f`` of a network's maps."""
    return _scores(((model(batch.images).sigmoid(), batch.masks) for batch in loader), "mae", "max_f")


def _scores(pairs: Iterable[tuple[Tensor, Tensor]], *names: str) -> dict[str, float]:
    metrics = SaliencyMetrics(metrics=names)
    for maps, masks in pairs:
        metrics.update(maps, masks.nan_to_num(0.0), masks.isnan())
    return metrics.compute().scores()


class Outcome(NamedTuple):
    """The networks before and after pruning, with their scores."""

    unpruned: CSNet
    slim: CSNet
    result: TrainingResult
    scores: tuple[Mapping[str, float], Mapping[str, float]]  # ``mae`` and ``max_f`` of both
    baselines: Baselines  # errors that the slim network has to beat
    proof: Proof  # how exact pruning was

    @property
    def is_good(self) -> bool:
        """Whether the slim network is clearly better than one map for all pictures."""
        return self.baselines.are_beaten_by(self.scores[1]["mae"])

    @property
    def numbers(self) -> dict[str, tuple[float, float]]:
        """Before and after pruning."""
        report, (before, after) = self.result.report, self.scores
        return {
            "parameters": report.parameters,
            "MACs": report.macs,
            "channels of BatchNorm": (report.channels, report.channels - report.removed),
            **({"milliseconds per picture": report.milliseconds} if report.milliseconds else {}),
            "MAE": (before["mae"], after["mae"]),
            "max F": (before["max_f"], after["max_f"]),
        }

    def warnings(self) -> list[str]:
        """Return what did not succeed."""
        found = []
        if not self.result.report.removed:
            below = f"no γ is below the threshold {self.result.threshold:g}"
            found.append(f"{below}, so no channel was removed: give it more --epochs")
        if not self.is_good:
            least = min(self.baselines)
            found.append(
                f"the slim network's MAE of {self.scores[1]['mae']:.4f} is not clearly better ({_CLEARLY:g} times or "
                f"less) than {least:.4f}, the MAE of one map for all pictures: give it more --epochs or more pictures"
            )
        return found

    def verdict(self) -> str:
        """Return how the slim network compares."""
        before, after = self.result.report.parameters
        return (
            f"The slim network has an MAE of {self.scores[1]['mae']:.4f} (before pruning {self.scores[0]['mae']:.4f}); "
            f"the best constant map has {self.baselines.constant:.4f}, the best map that is the same for all pictures "
            f"{self.baselines.fixed:.4f}. Of its parameters, {1 - after / before:.1%} went."
        )

    def summary(self) -> str:
        """Return the last lines that the command prints."""
        rows = [
            f"{name:<24}"
            + "".join(f"{f'{value:,}' if isinstance(value, int) else f'{value:.4g}':>14}" for value in both)
            for name, both in self.numbers.items()
        ]
        proof = (
            f"masking channels below the threshold changed maps by {self.proof.masked:.1e} on average; removing them "
            f"then changed outputs by at most {self.proof.cut:.1e} of the largest (float64)"
        )
        head = f"with BatchNorm's statistics measured anew for both:\n{'':<24}{'before':>14}{'after':>14}"
        return "\n".join([head, *rows, proof, self.verdict()])


def write_results(args: argparse.Namespace, split: Split, outcome: Outcome) -> None:
    """Write all files of a demo that trains."""
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
    result, before, after = outcome.result, outcome.unpruned, outcome.slim
    blocks = sum(isinstance(module, ILBlock) for module in before.modules())
    size, threshold = "x".join(map(str, input_size(args.size))), result.threshold
    networks = {"map before pruning": before, "map after": after}
    again = f"--threshold {threshold:g} --criterion gamma_first --size {size} -o".split()
    return training_page(
        "Training of a small network",
        subtitle=(
            f"{args.model} with {blocks} blocks and {result.report.parameters[0]:,} parameters, "
            f"{len(result.history.epochs)} epochs of {plural(len(split.train), kind)} at {size}, compared on "
            f"{len(split.validation)} others, seed {args.seed}"
        ),
        note=" ".join([outcome.verdict(), *(f"{text[0].upper()}{text[1:]}." for text in outcome.warnings())]),
        warning=bool(outcome.warnings()),
        numbers=outcome.numbers,
        proof=outcome.proof.numbers(result.report),
        command=shlex.join(
            ["goctconv", "prune", f"local-dir:{args.output / 'unpruned'}", *again, f"{args.output / 'again'}"]
        ),
        pictures=figures(args.model, result.history, before, {"before": before, "after": after}, threshold),
        examples=[example for pair in split.validation[:_SHOWN] if (example := example_of(pair, networks, args.size))],
    )
