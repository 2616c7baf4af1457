"""What the demo writes: a page, both networks, the history and the plan."""

import argparse
import shlex

import numpy as np
from PIL import Image

from ..._atomic import write_atomic
from ...analysis import Example, learning_page, plots
from ...saliency._data._sources import Split
from ...saliency._images import read_image
from ...saliency._open import ImageError
from ...saliency._pairs import ImagePair
from ...saliency._predict import predict
from ...saliency._render import grey_map
from .._progress import plural
from .._writing import writing
from ._outcome import Outcome

_SHOWN = 8
_SIDE = 320  # of pictures on the page, in pixels


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
    return learning_page(
        "What a small network learned",
        subtitle=(
            f"{outcome.name} with {outcome.result.report.parameters[0]:,} parameters, {len(history.epochs)} epochs of "
            f"{plural(len(split.train), kind)} at {args.size}, compared on {len(split.validation)} others, "
            f"seed {outcome.seed}"
        ),
        note=outcome.verdict() + _sentence(outcome.complaint()),
        warning=bool(outcome.complaint()),
        numbers=_numbers(outcome),
        proof=_proof(outcome),
        command=_command(args, outcome),
        pictures=_pictures(outcome),
        examples=[example for pair in split.validation[:_SHOWN] if (example := _example(args, pair, outcome))],
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


def _proof(outcome: Outcome) -> dict[str, float]:
    return {
        "maps with and without masked channels (mean)": outcome.proof.masked,
        "masked and cut, on all pictures, float64": outcome.proof.cut,
        **{f"masked and cut, {name}, float32": value for name, value in outcome.result.report.difference.items()},
    }


def _command(args: argparse.Namespace, outcome: Outcome) -> str:
    folder = args.output
    parts = ["goctconv", "prune", f"local-dir:{folder / 'unpruned'}", "--threshold", f"{outcome.result.threshold:g}"]
    size = args.size if isinstance(args.size, int) else "x".join(map(str, args.size))
    parts += ["--criterion", "bn_scale_first", "--size", str(size), "-o", str(folder / "again")]
    return shlex.join(parts)


def _pictures(outcome: Outcome) -> list[plots.Picture]:
    result = outcome.result
    pruned = {"pruned": sum(epoch.phase == "train" for epoch in result.history.epochs)}
    names = outcome.unpruned.dynamic_decay_names()
    return [
        plots.scales_over_time(result.history, events=pruned, threshold=result.threshold),
        plots.scale_distribution(
            {"before pruning": outcome.unpruned},
            layers=names,
            threshold=result.threshold,
            title="Before pruning",
        ),
        plots.learning_curves({outcome.name: result.history}, ("loss", "mae"), events=pruned),
        plots.channel_widths({"before": outcome.unpruned, "after": outcome.slim}),
    ]


def _example(args: argparse.Namespace, pair: ImagePair, outcome: Outcome) -> Example | None:
    """Return a photograph with its mask and both maps, or None where it cannot be read: learning has named it."""
    try:
        photograph, mask = read_image(pair.image), read_image(pair.mask)
    except ImageError:
        return None
    pictures = {"photograph": photograph, "true mask": mask.convert("L")}
    for caption, network in (("map before pruning", outcome.unpruned), ("map after", outcome.slim)):
        pictures[caption] = Image.fromarray(grey_map(predict(network, [photograph], size=args.size)[0]))
    for picture in pictures.values():
        picture.thumbnail((_SIDE, _SIDE))
    return Example(pair.name, {caption: np.asarray(picture) for caption, picture in pictures.items()})
