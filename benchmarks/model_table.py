"""Print the README's table of models: parameters, size, and multiply-accumulate operations of the convolutions."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

import goctconv

MODELS = ("csnet_x1", "csnet_x1_2", "csnet_x1_5", "csnet_x1_8", "csnet_x2", "csnet_x1_l", "csnet_x2_l")
SIZE = 224
HEADER = ("model", "parameters", "float32", f"MACs at {SIZE}×{SIZE}")


def row(name: str) -> tuple[str, ...]:
    """Return a model's cells; its convolutions are counted on tensors without data, so no time is spent on them."""
    with torch.device("meta"):
        model = goctconv.create_model(name).eval()
        image = torch.empty(1, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    macs = counter.get_total_flops() // 2  # an operation pair, multiply and add, is two to the counter
    return f"`{name}`", f"{parameters:,}", f"{parameters * 4 / 1000:,.0f} KB", f"{macs / 1e6:,.0f} M"


def table(names: tuple[str, ...] = MODELS) -> str:
    """Return the table in Markdown."""
    lines = [HEADER, ("---", "---:", "---:", "---:"), *map(row, names)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    print(table())
