"""What the demo writes: a page, both networks, the history and the plan."""

import argparse
import shlex

from ..._files import write_atomic
from ...layers import ILBlock
from ...report import training_page
from ...saliency.data import Split
from .._learned import example_of, figures
from .._model import input_size
from .._output import plural, writing
from ._outcome import Outcome

_SHOWN = 8


def write_results(args: argparse.Namespace, split: Split, outcome: Outcome) -> None:
    """Write all files of a demo that has learned.

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
        text = _page(args, split, outcome)
        write_atomic(folder / "report.html", lambda stream: stream.write(text.encode(errors="backslashreplace")))


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
        note=outcome.verdict() + _sentence(outcome.complaint()),
        warning=bool(outcome.complaint()),
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
