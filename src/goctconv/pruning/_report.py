"""The report of a pruning: what it changed, and why masked channels stayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .._checks import Spelling, in_python, spelled
from ._masking import CONSTANT, MaskingEffect
from ._reasons import Reason, ReasonGroup, grouped
from .surgery import natural

_LONGEST = 40  # layers that are listed
_COUNTS = ("channels", "masked", "removed")
_CURES = {
    "groups": ("{groups=True} masks channels together that can only go together", {"coupled", "sum"}),
    "outputs": ("{outputs=...}, a function of what the model returns, leaves out what nobody needs", {"output"}),
    "bn_bias": ('{bn_bias="zero"} makes constants 0, which can go anywhere', {"product", "border", "representative"}),
}
"""Options that let more go, with the kinds of reasons that they help against."""


@dataclass(frozen=True)
class PrunedLayer:
    """A BatchNorm before and after, as `PruningReport.layers` describes it."""

    channels: int
    masked: int
    removed: int
    held: dict[int, Reason] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Channels after."""
        return self.channels - self.removed

    @property
    def dependent(self) -> int:
        """How many are gone that were not masked: what made them, or what read them, was."""
        return self.removed - (self.masked - len(self.held))

    def channels_by_reason(self) -> dict[Reason, list[int]]:
        """Return which masked channels each reason holds, the most frequent reason first."""
        found: dict[Reason, list[int]] = {}
        for channel, reason in sorted(self.held.items()):
            found.setdefault(reason, []).append(channel)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))


@dataclass(frozen=True)
class PruningReport:
    """The changes by pruning, by layer and in all; ``print`` shows them.

    Attributes:
        layers: For each BatchNorm, by name, an object with its number of ``channels`` before; how many were ``masked``;
            how many are ``removed``, which are masked ones and those that depend on masked ones alone (``dependent``);
            how many are ``left``; and ``held``, the `Reason` of each masked channel that stayed, by channel. Its method
            ``channels_by_reason()`` returns which channels each reason holds.
        parameters: Before and after.
        macs: Multiply-accumulate operations of convolutions and linear layers, before and after.
        activations: Bytes of all their outputs, before and after.
        notes: Further remarks.
        difference: Largest difference of the outputs of pruned and masked network, relative to the largest output, by
            what was put in; empty before verification.
        milliseconds: Of a forward pass, before and after; None if it was not asked for.
        masking: How far masking alone moved the outputs on the example, or on random input if the example is constant,
            with the attributes ``relative`` (root mean square, relative to the outputs), ``largest`` (relative to the
            largest), ``spread`` (what is left of their standard deviation, from place to place and between inputs),
            ``is_collapse`` (less than 0.2 is), ``was_constant`` before masking, and ``layer``, which did most of it;
            None if it is not known.
        options: Those of ``groups``, ``outputs`` and ``bn_bias`` that were used, and so are not suggested.

    Example:
        >>> import timm, torch
        >>> from goctconv.pruning import prune_channels
        >>> model = timm.create_model("test_resnet", zero_init_last=False).eval()
        >>> report = prune_channels(model, torch.zeros(1, 3, 64, 64), ratio=0.3, bn_bias="zero").report
        >>> report.masked, max(report.difference.values()) < 1e-4
        (312, True)
        >>> PruningReport.from_dict(report.to_dict()) == report
        True
    """

    layers: dict[str, PrunedLayer]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    activations: tuple[int, int]
    notes: list[str] = field(default_factory=list)
    difference: dict[str, float] = field(default_factory=dict)
    milliseconds: tuple[float, float] | None = None
    masking: MaskingEffect | None = None
    options: list[str] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """Channels of all layers, before."""
        return sum(layer.channels for layer in self.layers.values())

    @property
    def masked(self) -> int:
        """Masked channels of all layers."""
        return sum(layer.masked for layer in self.layers.values())

    @property
    def removed(self) -> int:
        """Removed channels of all layers: masked ones, and those that depend on masked ones alone."""
        return sum(layer.removed for layer in self.layers.values())

    @property
    def held(self) -> int:
        """Masked channels of all layers that stayed."""
        return sum(len(layer.held) for layer in self.layers.values())

    @property
    def share(self) -> float:
        """The share of the masked channels that are gone; 1 if none was masked."""
        return 1 - self.held / self.masked if self.masked else 1.0

    def then(self, second: PruningReport, left: Mapping[str, list[int]]) -> PruningReport:
        """Return the report of this and a second pruning, of the slim model.

        Args:
            second: The report of the second one.
            left: The channels that this one left, by layer.
        """
        layers = {}
        for name, layer in self.layers.items():
            later = second.layers[name]
            held = {left[name][channel]: reason for channel, reason in later.held.items()}
            masked = layer.masked - len(layer.held) + later.masked
            layers[name] = PrunedLayer(layer.channels, masked, layer.removed + later.removed, held)
        return PruningReport(
            layers,
            (self.parameters[0], second.parameters[1]),
            (self.macs[0], second.macs[1]),
            (self.activations[0], second.activations[1]),
            [*self.notes, *second.notes],
            masking=self.masking,
            options=second.options,
        )

    def reasons(self) -> dict[Reason, int]:
        """Return how many channels each reason holds, the most frequent first."""
        counted = Counter(reason for layer in self.layers.values() for reason in layer.held.values())
        return dict(counted.most_common())

    def grouped_reasons(self, spelling: Spelling | None = None) -> list[ReasonGroup]:
        """Return the reasons by kind, with all layers where they hold channels, the most frequent kind first.

        Args:
            spelling: Writes an argument that a reason names, as in `text`.
        """
        return grouped(self.reasons(), spelling)

    def summary(self) -> str:
        """Return the report in a line."""
        if not self.masked:
            return "no channel is masked, so none is removed: no score is below the threshold, or the ratio is 0"
        dependent = self.removed - (self.masked - self.held)
        more = f", and {dependent:,} that depend on them alone" if dependent else ""
        return f"{self.masked - self.held:,} of {self.masked:,} masked channels removed{more}"

    def proof(self) -> str:
        """Return the result of verification in a line; empty before it."""
        if not self.difference:
            return ""
        each = ", ".join(f"{name} {value:.1e}" for name, value in self.difference.items())
        largest = max(self.difference.values())
        return f"equal to the masked network to {largest:.1e} of the largest output ({each})"

    def totals(self) -> list[tuple[str, float, float]]:
        """Return the changes in all: name, before, after."""
        rows: list[tuple[str, float, float]] = [
            ("channels", self.channels, self.channels - self.removed),
            ("parameters", *self.parameters),
            ("MACs", *self.macs),
            ("bytes of activations", *self.activations),
        ]
        if self.milliseconds:
            rows.append(("milliseconds", *self.milliseconds))
        return rows

    def hints(self, spelling: Spelling | None = None) -> list[str]:
        """Return options that may let more channels go.

        Args:
            spelling: Writes an argument, as in `text`.
        """
        kinds = {reason.kind for reason in self.reasons()}
        left = [_CURES[name] for name in _CURES if name not in self.options]
        found = [spelled(cure, spelling or in_python) for cure, against in left if kinds & against]
        return [f"Another choice of channels may let more go: {'; '.join(found)}."] if found else []

    def warning(self) -> str:
        """Return what is wrong with what masking left of the network; empty if nothing is."""
        return self.masking.warning() if self.masking and self.masked else ""

    def remarks(self) -> list[str]:
        """Return the notes but for what the warning says."""
        return [note for note in self.notes if note != CONSTANT or not self.warning()]

    def text(self, spelling: Spelling | None = None) -> str:
        """Return the report as lines of text.

        Args:
            spelling: Writes an argument of `goctconv.prune_channels` with its value, such as ``("bn_bias", '"zero"')``,
                where the text suggests one; as in Python by default.
        """
        masking = self.masking if self.masked else None
        lines = [f"{self.summary()}; {masking.summary()}" if masking else self.summary()]
        lines += [f"warning: {text}" for text in [self.warning()] if text]
        rows = [_row(*total) for total in self.totals()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines += [f"  {a:{widths[0]}}  {b:>{widths[1]}} -> {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
        lines += [line for line in [self.proof()] if line]
        lines += _layers({name: layer for name, layer in self.layers.items() if layer.masked or layer.removed})
        if self.held:
            lines.append(f"{self.held:,} masked {'channels stay' if self.held > 1 else 'channel stays'} because")
            lines += [f"  {group.count:6,}  {group}" for group in self.grouped_reasons(spelling)]
            lines += self.hints(spelling)
        return "\n".join([*lines, *self.remarks()])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON; ``held`` lists reasons with their channels."""
        return {
            "channels": self.channels,
            "masked": self.masked,
            "removed": self.removed,
            **{key: list(getattr(self, key)) for key in ("parameters", "macs", "activations")},
            "milliseconds": None if self.milliseconds is None else list(self.milliseconds),
            "difference": dict(self.difference),
            "masking": self.masking and asdict(self.masking),
            "notes": list(self.notes),
            "options": list(self.options),
            "layers": {
                name: {
                    "channels": layer.channels,
                    "masked": layer.masked,
                    "removed": layer.removed,
                    "held": [
                        {**asdict(reason), "text": str(reason), "channels": channels}
                        for reason, channels in layer.channels_by_reason().items()
                    ],
                }
                for name, layer in self.layers.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PruningReport:
        """Return the report that `to_dict` gave.

        Raises:
            ValueError: Something is missing: it is not such a report.
        """
        try:
            layers = {
                name: PrunedLayer(**{key: natural(layer[key]) for key in _COUNTS}, held=_held(layer["held"]))
                for name, layer in data["layers"].items()
            }
            parameters, macs, activations = (
                (int(before), int(after))
                for before, after in (data[key] for key in ("parameters", "macs", "activations"))
            )
            time = data["milliseconds"]
            milliseconds = None if time is None else (float(time[0]), float(time[1]))
            notes, difference = list(data["notes"]), dict(data["difference"])
            masking = MaskingEffect(**data["masking"]) if data.get("masking") else None
            options = list(data.get("options", []))
            return cls(layers, parameters, macs, activations, notes, difference, milliseconds, masking, options)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ValueError(f"this is no pruning report, or a damaged one ({problem})") from error

    def __str__(self) -> str:
        return self.text()


def _held(reasons: list[dict[str, Any]]) -> dict[int, Reason]:
    return {
        natural(channel): Reason(str(data["kind"]), str(data["layer"]), str(data["by"]))
        for data in reasons
        for channel in data["channels"]
    }


def _row(name: str, before: float, after: float) -> tuple[str, ...]:
    """Return a change in words: name, before, after, and what is left in percent."""
    numbers = [f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" for value in (before, after)]
    return name, *numbers, f"{100 * after / before:.1f} %" if before else ""


def _layers(layers: dict[str, PrunedLayer]) -> list[str]:
    """Return a line for every layer; of many, for those that lost most, or where most was to go and stayed."""
    most = sorted(layers, key=lambda name: -layers[name].removed - len(layers[name].held))[:_LONGEST]
    if not most:
        return []
    shown = {name: layer for name, layer in layers.items() if name in set(most)}
    width = max(len("layer"), *map(len, shown))
    digits = max(len(f"{layer.channels:,}") for layer in shown.values())
    lines = [f"{'layer':{width}}  {'channels':>{2 * digits + 4}}  masked, stay"]
    for name, layer in shown.items():
        held = f"{len(layer.held):14,}" if layer.held else ""
        lines.append(f"{name:{width}}  {layer.channels:{digits},} -> {layer.left:{digits},}{held}".rstrip())
    if rest := [layer for name, layer in layers.items() if name not in shown]:
        gone, stay = sum(layer.removed for layer in rest), sum(len(layer.held) for layer in rest)
        lines.append(f"and {len(rest)} more, which lost {gone:,} channels and kept {stay:,} masked ones")
    return lines
