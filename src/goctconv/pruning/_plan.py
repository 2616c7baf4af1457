"""A plan: what is cut out of a model, as data that can be saved and applied to a fresh model."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._errors import PruningError
from ._inputs import unwrapped
from ._rebuild import Moves, Shapes, Surgery
from ._report import PruningReport

FORMAT = "goctconv-pruning-plan"
VERSION = 1


@dataclass
class PruningPlan:
    """What `analyze` found: which channels are masked, which of them can go, and how the model changes then.

    Attributes:
        masked: Masked channels by BatchNorm.
        removed: Those of them that go.
        shapes: The new shapes of tensors, as data.
        report: What is gained, and why the other masked channels stay.
        beta: What masking does to the shift β of a BatchNorm: "keep" or "zero".
    """

    masked: dict[str, list[int]]
    removed: dict[str, list[int]]
    shapes: Shapes
    report: PruningReport
    beta: str = "keep"
    zero_beta: dict[str, list[int]] = field(default_factory=dict)
    moves: Moves | None = field(default=None, repr=False)

    def apply(self, model: nn.Module, *, inplace: bool = False) -> nn.Module:
        """Return a slim copy of a model.

        A plan that `analyze` made turns the model that it analysed into an equal one of its masked form. A plan that
        was loaded holds shapes only: apply it to a fresh model of the same architecture, then load the state dict of
        the slim one.

        Args:
            model: The model that was analysed, or one of the same architecture.
            inplace: Change the model itself; if that fails, it is as before.

        Raises:
            PruningError: The model has other tensors than the plan is for.
        """
        model = unwrapped(model)
        self._check(model)
        slim = model if inplace else copy.deepcopy(model)
        surgery = Surgery(slim)
        try:
            self.mask(slim, surgery)
            surgery.apply(self.shapes, self.moves)
        except BaseException:
            surgery.roll_back()
            raise
        return slim

    def mask(self, model: nn.Module, surgery: Surgery | None = None) -> nn.Module:
        """Set γ of masked channels to 0, and β as the plan says; returns the model.

        A pruned network equals the original after this.
        """
        for name, channels in self.masked.items():
            norm = model.get_submodule(name)
            _zero(norm, "weight", channels, surgery)
            _zero(norm, "bias", channels if self.beta == "zero" else self.zero_beta.get(name, []), surgery)
        return model

    def _check(self, model: nn.Module) -> None:
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, dimensions in self.shapes.rows.items():
            if name not in tensors:
                raise PruningError(f"the plan cuts {name!r}, which the model does not have: it is for another one")
            for dimension, kept in dimensions.items():
                size = tensors[name].shape[dimension] if dimension < tensors[name].dim() else 0
                was = self.shapes.sizes.get(name, {}).get(dimension, size)
                if size != was or (kept and kept[-1] >= size):
                    raise PruningError(
                        f"the plan cuts {name!r} with {was} entries along dimension {dimension}, the model's has {size}: "
                        "it is for another model, or has been applied already"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "masked": self.masked,
            "removed": self.removed,
            "beta": self.beta,
            "zero_beta": self.zero_beta,
            "shapes": asdict(self.shapes),
            "report": self.report.to_dict(),
        }

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; weights are not in it."""
        Path(path).write_text(json.dumps(self.to_dict()), encoding="utf-8")

    def __str__(self) -> str:
        return str(self.report)


def load_plan(path: str | Path) -> PruningPlan:
    """Read a plan that `PruningPlan.save` wrote.

    Raises:
        PruningError: The file is no plan, or one of a later version.

    Example:
        >>> import torch
        >>> from goctconv import analyze, load_plan
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 3))
        >>> torch.nn.init.zeros_(model[1].weight[:5])
        tensor([0., 0., 0., 0., 0.], grad_fn=<ZeroBackward0>)
        >>> analyze(model, torch.zeros(1, 3, 16, 16), threshold=1e-20).save("plan.json")
        >>> slim = load_plan("plan.json").apply(model)
        >>> slim[0].out_channels
        3
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise PruningError(f"{path} is no pruning plan: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PruningError(f"{path} is no pruning plan: it was not written by PruningPlan.save")
    if data["version"] > VERSION:
        raise PruningError(f"{path} has version {data['version']}, this goctconv reads {VERSION}: install a newer one")
    shapes = data["shapes"]
    for key in ("rows", "sizes"):
        shapes[key] = {name: {int(d): kept for d, kept in one.items()} for name, one in shapes[key].items()}
    report = PruningReport.from_dict(data["report"])
    return PruningPlan(data["masked"], data["removed"], Shapes(**shapes), report, data["beta"], data["zero_beta"])


def _zero(module: nn.Module, attribute: str, channels: list[int], surgery: Surgery | None) -> None:
    tensor = module._parameters.get(attribute)
    if tensor is None or not channels:
        return
    index = torch.tensor(channels, device=tensor.device)
    if surgery is not None:
        surgery.keep_values(tensor)
    with torch.no_grad():
        tensor.index_fill_(0, index, 0)


def channels_of(mask: Tensor) -> list[int]:
    """Return the channels that a mask names."""
    return [int(one) for one in mask.nonzero()[:, 0]]
