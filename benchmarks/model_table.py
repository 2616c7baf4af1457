"""Print the README's table of models.

Parameters, size, multiply-accumulate operations of the convolutions; the scores of weights are those that
`own_weights/results.py` has written.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import goctconv

MODELS = (
    "csnet_x1_l.distilled", "csnet_x1_l.duts", "csnet_x2_l.duts", "csnet_x1", "csnet_x1_2", "csnet_x1_5", "csnet_x1_8",
    "csnet_x2",
)  # fmt: skip
WEIGHTS = {"distilled": "ours", "duts": "the authors'", "": "none"}
SIZE = 224
HEADER = ("model", "parameters", "float32", f"MACs at {SIZE}×{SIZE}", "weights", "max F", "MAE")
RESULTS = Path(__file__).parent / "own_weights" / "results.json"


def row(name: str) -> tuple[str, ...]:
    """Return a model's cells; its convolutions are counted on tensors without data, so no time is spent on them."""
    with torch.device("meta"):
        model = goctconv.create_model(name.partition(".")[0]).eval()
        image = torch.empty(1, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    macs = counter.get_total_flops() // 2  # an operation pair, multiply and add, is two to the counter
    architecture, _, tag = name.partition(".")
    scores = json.loads(RESULTS.read_text(encoding="utf-8")).get(name, {}).get("ecssd_200")
    quality = ("", "") if scores is None else (f"{scores['max_f']:.3f}", f"{scores['mae']:.3f}")
    size = f"{parameters * 4 / 1000:,.0f} KB"
    return f"`{architecture}`", f"{parameters:,}", size, f"{macs / 1e6:,.0f} M", WEIGHTS[tag], *quality


def table(names: tuple[str, ...] = MODELS) -> str:
    """Return the table in Markdown."""
    lines = [HEADER, ("---", "---:", "---:", "---:", "---", "---:", "---:"), *map(row, names)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    print(table())
