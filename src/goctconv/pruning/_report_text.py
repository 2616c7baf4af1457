"""The report of a pruning as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._checks import Spelling, spelled

if TYPE_CHECKING:
    from ._report import PrunedLayer, PruningReport

_LONGEST = 40  # layers that are listed
_CURES = {
    "{groups=True} masks channels together that can only go together": {"coupled", "sum"},
    '{bn_bias="zero"} makes constants 0, which can go anywhere': {"product", "border", "representative"},
}
"""Options that let more go, by the kinds of reasons that they help against."""


def totals_of(report: PruningReport) -> list[tuple[str, float, float]]:
    """Return what changed in all: name, before, after."""
    rows: list[tuple[str, float, float]] = [
        ("channels", report.channels, report.channels - report.removed),
        ("parameters", *report.parameters),
        ("MACs", *report.macs),
        ("bytes of activations", *report.activations),
    ]
    return [*rows, *([("milliseconds", *report.milliseconds)] if report.milliseconds else [])]


def summary_of(report: PruningReport) -> str:
    """Return the first line."""
    if not report.masked:
        return "no channel is masked, so none is removed: no score is below the threshold, or the ratio is 0"
    dependent = report.removed - (report.masked - report.held)
    more = f", and {dependent:,} that depend on them alone" if dependent else ""
    return f"{report.masked - report.held:,} of {report.masked:,} masked channels removed{more}"


def proof_of(report: PruningReport) -> str:
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


def render_text(report: PruningReport, spelling: Spelling) -> str:
    """Return the report as lines of text."""
    lines = [summary_of(report)]
    rows = [(name, number(before), number(after), share(before, after)) for name, before, after in totals_of(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines += [f"  {a:{widths[0]}}  {b:>{widths[1]}} -> {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    lines += [line for line in [proof_of(report)] if line]
    lines += _layers({name: layer for name, layer in report.layers.items() if layer.masked or layer.removed})
    if report.held:
        lines.append(f"{report.held:,} masked {'channels stay' if report.held > 1 else 'channel stays'} because")
        lines += [f"  {group.count:6,}  {group}" for group in report.grouped_reasons(spelling)]
        lines += hints_of(report, spelling)
    lines += report.notes
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


def hints_of(report: PruningReport, spelling: Spelling) -> list[str]:
    """Return what may help against the reasons."""
    kinds = {reason.kind for reason in report.reasons()}
    found = [spelled(cure, spelling) for cure, against in _CURES.items() if kinds & against]
    return [f"Another choice of channels may let more go: {'; '.join(found)}."] if found else []
