"""The report as text, and reasons that differ in a module's name alone as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._report import PrunedLayer, PruningReport

_LONGEST = 40  # layers that are listed
_PLACES = 4  # of a reason that are listed
_NAME = re.compile(r"[(]?(\w+(\.\w+)+|[A-Za-z_]\w*\d)[),;:]*")
_GAP = "…"
_BETWEEN = " → "


@dataclass
class Group:
    """Reasons that differ in the names of modules alone.

    Attributes:
        text: The reason, with a gap where the names stand.
        places: How many channels, by what stands in the gap; the reason itself if it has none.
    """

    text: str
    places: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Channels of all places."""
        return sum(self.places.values())

    def __str__(self) -> str:
        if len(self.places) == 1:
            return self._filled()
        most = sorted(self.places.items(), key=lambda item: -item[1])
        listed = [f"{place} ({count:,})" for place, count in most[:_PLACES]]
        more = [f"{len(most) - _PLACES} more"] if len(most) > _PLACES else []
        return f"{self.text}: {', '.join(listed + more)}"

    def _filled(self) -> str:
        words = iter(next(iter(self.places)).split(_BETWEEN))
        return " ".join(word.replace(_GAP, next(words)) if _GAP in word else word for word in self.text.split(" "))


def grouped(counts: Mapping[str, int]) -> list[Group]:
    """Group reasons by what they say, the most frequent first.

    Example:
        >>> [str(one) for one in grouped({"fc reads it": 3, "layer1.conv reads it": 2, "it is kept": 1})]
        ['… reads it: fc (3), layer1.conv (2)', 'it is kept']
    """
    groups: dict[tuple[str, ...], Group] = {}
    patterns = [_pattern(reason.split(" ")) for reason in counts]
    known = {pattern for pattern in patterns if _GAP in "".join(pattern)}
    for (reason, count), own in zip(counts.items(), patterns, strict=True):
        pattern = _merged(own, known)
        words = [_core(word) for word, mark in zip(reason.split(" "), pattern, strict=True) if _GAP in mark]
        group = groups.setdefault(pattern, Group(" ".join(pattern)))
        place = _BETWEEN.join(words)
        group.places[place] = group.places.get(place, 0) + count
    return sorted(groups.values(), key=lambda group: -group.count)


def _pattern(words: list[str]) -> tuple[str, ...]:
    return tuple(word.replace(_core(word), _GAP) if _NAME.fullmatch(word) else word for word in words)


def _core(word: str) -> str:
    return word.strip("(),;:")


def _merged(pattern: tuple[str, ...], known: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the known pattern that a pattern equals but for one word that is a name too, such as "fc"."""
    for other in known:
        if len(other) == len(pattern):
            differing = [(a, b) for a, b in zip(pattern, other, strict=True) if a != b]
            if len(differing) == 1 and differing[0][1] == differing[0][0].replace(_core(differing[0][0]) or " ", _GAP):
                return other
    return pattern


def totals(report: PruningReport) -> list[tuple[str, float, float]]:
    """Return what changed in all: name, before, after."""
    rows: list[tuple[str, float, float]] = [
        ("channels", report.channels, report.channels - report.removed),
        ("parameters", *report.parameters),
        ("MACs", *report.macs),
        ("bytes of activations", *report.activations),
    ]
    return [*rows, *([("milliseconds", *report.milliseconds)] if report.milliseconds else [])]


def summary(report: PruningReport) -> str:
    """Return the first line."""
    if not report.masked:
        return "no channel is masked, so none is removed: no score is below the threshold, or the ratio is 0"
    dependent = report.removed - (report.masked - report.held)
    more = f", and {dependent:,} that depend on them alone" if dependent else ""
    return f"{report.masked - report.held:,} of {report.masked:,} masked channels removed{more}"


def proof(report: PruningReport) -> str:
    """Return what verification found; empty before it."""
    if not report.difference:
        return ""
    each = ", ".join(f"{name} {value:.1e}" for name, value in report.difference.items())
    return f"equal to the masked network to {max(report.difference.values()):.1e} of the largest output ({each})"


def number(value: float) -> str:
    """Return a number as people write it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def share(before: float, after: float) -> str:
    """Return what is left, in percent."""
    return f"{100 * after / before:.1f} %" if before else ""


def render_text(report: PruningReport) -> str:
    """Return the report as lines of text."""
    lines = [summary(report)]
    rows = [(name, number(before), number(after), share(before, after)) for name, before, after in totals(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines += [f"  {a:{widths[0]}}  {b:>{widths[1]}} -> {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    lines += [line for line in [proof(report)] if line]
    lines += _layers({name: layer for name, layer in report.layers.items() if layer.masked or layer.removed})
    if report.held:
        lines.append(f"{report.held:,} masked {'channels stay' if report.held > 1 else 'channel stays'} because")
        lines += [f"  {group.count:6,}  {group}" for group in grouped(report.reasons())]
        lines += hints(report)
    lines += [str(group) for group in grouped(dict.fromkeys(report.notes, 1))]
    return "\n".join(lines)


def _layers(layers: dict[str, PrunedLayer]) -> list[str]:
    """Return a line for every layer; of many, for those that lost most, or where most was to go and stayed."""
    most = sorted(layers, key=lambda name: -layers[name].removed - len(layers[name].held))[:_LONGEST]
    shown = {name: layer for name, layer in layers.items() if name in set(most)}
    if not shown:
        return []
    width = max(len("layer"), *map(len, shown))
    digits = max(len(f"{layer.channels:,}") for layer in shown.values())
    lines = [f"{'layer':{width}}  {'channels':>{2 * digits + 4}}  masked, stay"]
    for name, layer in shown.items():
        held = f"{len(layer.held):14,}" if layer.held else ""
        lines.append(f"{name:{width}}  {layer.channels:{digits},} -> {layer.left:{digits},}{held}".rstrip())
    rest = [layer for name, layer in layers.items() if name not in shown]
    if rest:
        gone, held_there = sum(layer.removed for layer in rest), sum(len(layer.held) for layer in rest)
        lines.append(f"and {len(rest)} more, which lost {gone:,} channels and kept {held_there:,} masked ones")
    return lines


def hints(report: PruningReport) -> list[str]:
    """Return what may help against the reasons."""
    reasons = " ".join(report.reasons())
    hints = []
    if "goes only with" in reasons or "in the sum" in reasons:
        hints.append("groups=True masks channels together that can only go together")
    if "reads the product" in reasons or "border of zeros" in reasons or "stands for the constants" in reasons:
        hints.append('bn_bias="zero" makes constants 0, which can go anywhere')
    return [f"Another choice of channels may let more go: {'; '.join(hints)}."] if hints else []
