"""A pruning plan: the cuts of a model, as data that can be saved and applied to a fresh model."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import escaped
from .._limits import read_json
from .._torch import parameters_of
from ..graph import modules_by_path, named_batch_norms, stored_tensors, unwrapped
from ._copies import whole_copy
from ._inputs import PruningError, is_of
from ._report import PrunedLayer, PruningReport
from .surgery import Moves, Shapes, Surgery, cut_like, natural

FORMAT = "goctconv-pruning-plan"
VERSION = 2
_MISFITS = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError)  # of what a file holds
_OTHER = "it is for another model, or has been applied already"


@dataclass(frozen=True)
class Masks:
    """Masked channels by BatchNorm."""

    gammas: dict[str, list[int]]  # where γ := 0
    biases: dict[str, list[int]]  # where β := 0 too

    def of(self, layers: Collection[str]) -> Masks:
        """Return those of some layers."""
        return Masks(*({name: its[name] for name in layers if name in its} for its in (self.gammas, self.biases)))

    def apply(self, model: nn.Module, surgery: Surgery | None = None) -> None:
        """Set them to 0, in place."""
        indices: dict[int, Tensor] = {}  # of lists of channels, which γ and β mostly share
        for attribute, masked in (("weight", self.gammas), ("bias", self.biases)):
            for name, channels in masked.items():
                tensor = parameters_of(model.get_submodule(name)).get(attribute)
                if tensor is None or not channels:
                    continue
                if surgery is not None:
                    surgery.keep_values(tensor)
                if id(channels) not in indices:
                    indices[id(channels)] = torch.from_numpy(np.array(channels, dtype=np.int64))
                with torch.no_grad():
                    tensor.index_fill_(0, indices[id(channels)].to(tensor.device), 0)


@dataclass(repr=False)
class PruningPlan:
    """What `plan_pruning` found: which channels are masked, which of them can go, and how the model changes then.

    Attributes:
        masks: What is masked.
        removed: Channels that go by BatchNorm: masked ones, and those that only masked ones depend on.
        steps: The new shapes of tensors, as data; cut one after the other.
        report: What is gained, and why the other masked channels stay.
        weights: Sums of the masked weights that were analysed, by which they are recognised.
        moves: What is added for constants that go; only in a plan that `plan_pruning` made, and not in a file.
        adds: Whether anything is added.

    Example:
        >>> import torch
        >>> from goctconv import plan_pruning
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 3))
        >>> plan = plan_pruning(model, torch.zeros(1, 3, 16, 16), ratio=0.25)
        >>> plan.removed, plan.apply(model)[1].num_features
        ({'1': [0, 1]}, 6)
    """

    masks: Masks
    removed: dict[str, list[int]]
    steps: list[Shapes]
    report: PruningReport
    weights: dict[str, list[float]] = field(default_factory=dict)
    moves: list[Moves] | None = None
    adds: bool = False

    @classmethod
    def empty(cls, model: nn.Module) -> PruningPlan:
        """Return the plan that leaves a model as it is; it is not run, so that MACs are not counted.

        Args:
            model: Any network.

        Example:
            >>> import torch
            >>> from goctconv.pruning import PruningPlan
            >>> PruningPlan.empty(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))).removed
            {}
        """
        layers = {name: PrunedLayer(module.num_features, 0, 0) for name, module in named_batch_norms(model).items()}
        count = sum(parameter.numel() for parameter in model.parameters())
        return cls(Masks({}, {}), {}, [], PruningReport(layers, (count, count), (0, 0), (0, 0)))

    @property
    def masked(self) -> dict[str, list[int]]:
        """Channels with γ := 0 by BatchNorm."""
        return self.masks.gammas

    def apply(self, model: nn.Module, *, inplace: bool = False) -> nn.Module:
        """Return a slim copy of a model.

        A plan made by `plan_pruning` turns its own model into an equal one of its masked form. A plan that
        was loaded holds shapes only: apply it to a fresh model of the same architecture, then load the state dict of
        the slim one.

        Args:
            model: The model that was analysed, or one of the same architecture.
            inplace: Change the model itself; if that fails, it is as before.

        Warns:
            UserWarning: Constants that go are missed: the weights are not those that were analysed, or the plan was
                loaded. The shape is right then, and with the slim model's state dict it is the slim model.

        Raises:
            PruningError: The model has other tensors than the plan is for.
        """
        model = unwrapped(model)
        self._check(model)
        slim = model if inplace else whole_copy(model)
        surgery = Surgery(slim)
        try:
            self.masks.apply(slim, surgery)
            self.cut(surgery, with_moves=self._fits(slim))
        except BaseException as error:
            surgery.roll_back()
            if self.moves is None and isinstance(error, _MISFITS) and not isinstance(error, PruningError):
                problem = f"the plan does not fit the model ({type(error).__name__}: {error}): {_OTHER}"
                raise PruningError(problem) from error
            raise
        return slim

    def cut(self, surgery: Surgery, *, with_moves: bool = True) -> None:
        """Cut a model whose channels are masked already."""
        moves = self.moves if with_moves and self.moves is not None else [Moves()] * len(self.steps)
        for shapes, added in zip(self.steps, moves, strict=True):
            surgery.apply(shapes, added)

    def _fits(self, masked: nn.Module) -> bool:
        """Whether what was moved is right for a masked model; warns where it would be missed."""
        is_analysed = bool(self.weights) and is_of(masked, self.weights)
        if self.adds and (self.moves is None) == is_analysed:
            problem = (
                "this plan was loaded, and the constants that it moves are not in its file"
                if is_analysed
                else "the model has other weights than those that were analysed, so constants that go are missed"
            )
            cure = "load the state dict of the slim model into the result, or plan this model"
            warnings.warn(f"{problem}: {cure}", stacklevel=3)
        return is_analysed

    def then(self, second: PruningPlan) -> PruningPlan:
        """Return the plan that does what this one does, and then what one of the slim model does.

        As one that was loaded, it holds shapes only.

        Example:
            >>> import torch
            >>> from goctconv import prune_channels
            >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 3))
            >>> first = prune_channels(model, torch.zeros(1, 3, 16, 16), ratio=0.25)
            >>> second = prune_channels(first.model, torch.zeros(1, 3, 16, 16), ratio=0.5)
            >>> plan = first.plan.then(second.plan)
            >>> plan.removed, plan.apply(model)[1].num_features
            ({'1': [0, 1, 2, 3, 4]}, 3)
        """
        left = {
            name: sorted(set(range(layer.channels)) - set(self.removed.get(name, ())))
            for name, layer in self.report.layers.items()
        }

        def joined(first: dict[str, list[int]], later: dict[str, list[int]]) -> dict[str, list[int]]:
            added = {name: {left[name][channel] for channel in channels} for name, channels in later.items()}
            names = [name for name in left if name in first or name in added]
            return {name: sorted({*first.get(name, ()), *added.get(name, ())}) for name in names}

        masks = Masks(joined(self.masks.gammas, second.masks.gammas), joined(self.masks.biases, second.masks.biases))
        report = self.report.then(second.report, left)
        steps = [*self.steps, *second.steps]
        return PruningPlan(masks, joined(self.removed, second.removed), steps, report, adds=self.adds or second.adds)

    def cut_like(self, name: str, tensor: Tensor) -> Tensor:
        """Return the part that is left of a tensor which has the shape of the parameter or buffer of a name."""
        for shapes in self.steps:
            tensor = cut_like(name, tensor, shapes)
        return tensor

    @property
    def biases(self) -> list[str]:
        """Names of biases that are new."""
        return [name for shapes in self.steps for name in shapes.biases]

    def mask(self, model: nn.Module) -> nn.Module:
        """Set γ of masked channels to 0, and β where the plan says so; returns the model.

        A pruned network equals the original after this.

        Raises:
            PruningError: The model has other layers than the plan is for.
        """
        inner = unwrapped(model)
        self._check_masks(inner)
        self.masks.apply(inner)
        return model

    def _check_masks(self, model: nn.Module) -> None:
        gammas = {name: parameters_of(module).get("weight") for name, module in modules_by_path(model).items()}
        for name in (*self.masks.gammas, *self.masks.biases):
            if gammas.get(name) is None:
                raise PruningError(f"the plan masks {name!r}, which the model does not have: it is for another one")
        for name, layer in self.report.layers.items():
            gamma = gammas.get(name)
            if gamma is not None and len(gamma) != layer.channels:
                raise PruningError(
                    f"the plan is for {layer.channels} channels of {name!r}, the model has {len(gamma)}: {_OTHER}"
                )

    def _check(self, model: nn.Module) -> None:
        tensors = stored_tensors(model)
        first = self.steps[0] if self.steps else Shapes()
        for name, dimensions in first.rows.items():
            if name not in tensors:
                raise PruningError(f"the plan cuts {name!r}, which the model does not have: it is for another one")
            for dimension, kept in dimensions.items():
                size = tensors[name].shape[dimension] if dimension < tensors[name].dim() else 0
                was = first.sizes.get(name, {}).get(dimension, size)
                if size != was or (kept and kept[-1] >= size):
                    entries = f"with {was} entries along dimension {dimension}, the model's has {size}"
                    raise PruningError(f"the plan cuts {name!r} {entries}: {_OTHER}")
        for name in self.biases:
            if name in tensors:
                raise PruningError(f"the plan adds {name!r}, which the model has: it has been applied already")
        self._check_masks(model)
        if self.moves is None:
            self._check_growth(model)

    def _check_growth(self, model: nn.Module) -> None:
        """Check that nothing becomes larger by a plan that was loaded: new biases are no longer than weights."""
        modules = dict(model.named_modules())
        for shapes in self.steps:
            for name, length in shapes.biases.items():
                weight = getattr(modules.get(name.rpartition(".")[0]), "weight", None)
                if not isinstance(weight, Tensor) or length > weight.numel():
                    raise PruningError(
                        f"the plan adds {name!r} of {length:,} numbers, more than its layer has: {_OTHER}"
                    )
            for path, attributes in shapes.attributes.items():
                for attribute, value in attributes.items():
                    now = _numbers(vars(modules.get(path, model)).get(attribute.partition(".")[0]))
                    if max(_numbers(value), default=0) > max(now, default=-1):
                        place = f"{path}.{attribute}".lstrip(".")
                        raise PruningError(f"the plan sets {place} to {value}, which has no such size: {_OTHER}")

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "masks": asdict(self.masks),
            "removed": self.removed,
            "steps": [shapes.to_dict() for shapes in self.steps],
            "weights": self.weights,
            "adds": self.adds,
            "report": self.report.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> PruningPlan:
        """Return the plan that `to_dict` gave.

        Raises:
            ValueError: It is no plan, one of a later version, or damaged.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError("it was not written by PruningPlan.save")
        version = data.get("version")
        if version != VERSION:
            cure = "install a newer one" if isinstance(version, int) and version > VERSION else "plan again"
            raise ValueError(f"it has version {version}, this goctconv reads {VERSION}: {cure}")
        try:
            steps = [Shapes.from_dict(step) for step in data["steps"]]
            masks = Masks(*(_channels(data["masks"][kind]) for kind in ("gammas", "biases")))
            report = PruningReport.from_dict(data["report"])
            weights = {name: [*map(float, sums)] for name, sums in data["weights"].items()}
            return cls(masks, _channels(data["removed"]), steps, report, weights, adds=bool(data["adds"]))
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"it is damaged: {type(error).__name__}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; weights are not in it."""
        Path(path).write_text(json.dumps(self.to_dict()), encoding="utf-8")

    def __str__(self) -> str:
        return str(self.report)

    def __repr__(self) -> str:
        return f"PruningPlan({self.report.summary()})"


def _numbers(value: object) -> list[int]:
    """Return the integers in a value of an attribute."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int) else []


def _channels(data: Any) -> dict[str, list[int]]:
    return {name: [*map(natural, channels)] for name, channels in data.items()}


def load_plan(path: str | os.PathLike[str]) -> PruningPlan:
    """Read a plan that `PruningPlan.save` wrote.

    Raises:
        PruningError: The file is no plan, or one of a later version.

    Example:
        >>> import tempfile, torch
        >>> from goctconv import plan_pruning, load_plan
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 3))
        >>> with torch.no_grad():
        ...     gamma = model[1].weight[:5].zero_()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plan_pruning(model, torch.zeros(1, 3, 16, 16), threshold=1e-20).save(f"{folder}/plan.json")
        ...     slim = load_plan(f"{folder}/plan.json").apply(model)
        >>> slim[0].out_channels
        3
    """
    try:
        return PruningPlan.from_dict(read_json(Path(path)))
    except ValueError as error:
        raise PruningError(f"{path} is no pruning plan: {escaped(error)}") from error
