"""What came of a demo's learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...models import CSNet
from ...training import TrainingResult
from .._learned import Proof
from ._judge import CLEARLY, Baselines


@dataclass(frozen=True)
class Outcome:
    """The networks before and after pruning, and how good they are.

    Attributes:
        name: The model's.
        seed: Of everything.
        unpruned: The trained network.
        slim: The pruned and fine-tuned one.
        result: Of learning.
        scores: ``mae`` and ``max_f`` of both networks.
        baselines: What has to be beaten.
        proof: That cutting changed nothing.
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

    def complaint(self) -> str:
        """Return what to say of what did not succeed; nothing if all did."""
        complaints = []
        if not self.result.report.removed:
            complaints.append("no channel has faded, so none was removed: give it more --epochs")
        if not self.is_good:
            complaints.append(self._not_better())
        return "; ".join(complaints)

    def _not_better(self) -> str:
        least = min(self.baselines.constant, self.baselines.fixed)
        return (
            f"the slim network's MAE of {self.scores[1]['mae']:.4f} is not clearly better ({CLEARLY:g} times or less) "
            f"than {least:.4f}, which one and the same map for all pictures has: give it more --epochs or "
            "more pictures"
        )

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
            f"with BatchNorm's statistics measured anew for both:\n{table}\nsetting faded channels to 0 changed maps "
            f"by {self.proof.masked:.1e} on average; removing them then changed outputs by at most "
            f"{self.proof.cut:.1e} of the largest (float64)\n{self.verdict()}\n{seconds:.0f} s in all: open {page}"
        )

    @staticmethod
    def went(counts: tuple[int, int]) -> float:
        """Return the share that is gone."""
        return 1 - counts[1] / counts[0]
