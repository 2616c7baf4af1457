"""Operators of ATen that networks call, by the package that the networks are of.

They are those of one forward pass in eval mode, of the networks of `networks.py`, of further ones of torchaudio, and of
a detector of our own with the parts that detection toolboxes have. ``tests/reference/operators.json`` holds what was
recorded; a run adds the packages that are installed. Printed, and shown in docs/how-to/prune.md, is how many of the
operators pruning follows.

    python benchmarks/operators.py --json tests/reference/operators.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from networks import NETWORKS

from goctconv.graph import Observer, Operation, recording
from reference.coverage import coverage
from reference.zoo.detector import Detector

OWN = "a detector of our own"


class _Names(Observer):
    """Collects names of operators."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def before(self, operation: Operation) -> None:
        self.found.add(operation.name)


def main() -> None:
    """Record the operators of every package that is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all names there")
    parser.add_argument("--packages", nargs="+", help="all of them by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
    recorded: dict[str, list[set[str]]] = {}
    for name, make, example in _all():
        package = name.partition("/")[0]
        if options.packages is None or package in options.packages:
            try:
                recorded.setdefault(package, []).append(operators_of(make().eval(), example))
            except Exception as error:  # noqa: BLE001  # whatever a network raises
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    for package, sets in recorded.items():
        found[package] = {"networks": len(sets), "operators": sorted(set().union(*sets))}
    print("\n".join(coverage(found)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def operators_of(model: nn.Module, example: Any) -> set[str]:
    """Return the names of the operators of a forward pass."""
    names = _Names()
    model = model.double()
    with torch.inference_mode(), recording(model, names):
        model(*example) if isinstance(example, tuple) else model(example)
    return names.found


def _all() -> Iterator[tuple[str, Callable[[], nn.Module], Any]]:
    """Give names, makers and examples of all networks."""
    for name, network in NETWORKS.items():
        yield name, network.make, network.inputs(1, 0)
    if importlib.util.find_spec("torchaudio"):
        yield from _of_torchaudio()
    yield OWN, Detector, torch.rand(1, 3, 48, 64, dtype=torch.float64)


def _of_torchaudio() -> Iterator[tuple[str, Callable[[], nn.Module], Any]]:
    """Give networks without BatchNorm, or without a plain forward pass, that `networks.py` leaves out."""
    from torchaudio import models  # noqa: PLC0415  # in an environment of its own

    wave = torch.randn(1, 8000, dtype=torch.float64)
    frames = torch.randn(1, 40, 80, dtype=torch.float64)
    yield "torchaudio/conv_tasnet", models.ConvTasNet, wave[None]
    yield "torchaudio/deepspeech", lambda: models.DeepSpeech(80), frames[None]
    yield "torchaudio/wav2letter", lambda: models.Wav2Letter(input_type="waveform"), wave[None]
    yield "torchaudio/wav2vec2_base", models.wav2vec2_base, wave
    yield "torchaudio/wavlm_base", models.wavlm_base, wave
    yield "torchaudio/hubert_base", models.hubert_base, wave
    yield "torchaudio/hdemucs_low", lambda: models.hdemucs_low(["drums", "voice"]), wave[None].repeat(1, 2, 1)
    yield (
        "torchaudio/emformer",
        lambda: models.Emformer(80, 4, 128, 2, 4, right_context_length=1),
        (
            torch.randn(1, 9, 80, dtype=torch.float64),
            torch.tensor([8]),
        ),
    )
    yield "torchaudio/squim", models.squim_objective_base, wave
    tokens = torch.randint(20, (1, 9))
    yield (
        "torchaudio/tacotron2",
        models.Tacotron2,
        (
            tokens,
            torch.tensor([9]),
            torch.randn(1, 80, 12, dtype=torch.float64),
            torch.tensor([12]),
        ),
    )


if __name__ == "__main__":
    main()
