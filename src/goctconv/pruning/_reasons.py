"""Reasons why a masked channel stays, as data; their text is made where it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .._checks import Spelling, in_python, spelled

_GAP = "…"
_PLACES = 4  # that are listed

TEXTS = {
    "live": "it is live where {layer} reads it",
    "coupled": "coupled to {by}, still used by {layer}",
    "sum": "{by} is live in the sum that {layer} reads",
    "unknown_sum": "something that {by} adds is live, and {layer} reads the sum",
    "product": "{by} multiplies it by something live, and {layer} reads the product",
    "border": "a border of zeros in {by} makes it no constant, and {layer} reads that",
    "varies": "{by} makes it no constant, and {layer} reads that",
    "no_bias": "its constant cannot be moved into {layer}",
    "representative": "it stands for the constants that {layer} reads",
    "not_understood": "{by} in {layer} is not understood",
    "empty": "{by} in {layer} takes nothing of it on the example: pass one on which it does",
    "mixed": "{by} in {layer} mixes it with other channels",
    "joined": "{by} in {layer} joins it to something that must stay",
    "size": "{by} in {layer} has a size that is not known to follow",
    "size_of": "{by} in {layer} needs its size",
    "counted": "{by} in {layer} computes with the number of channels",
    "compared": "the number of channels is compared with another",
    "fixed": "the code computes with {layer}.{by}",
    "no_value": "{layer}.{by} has no value for it",
    "balance": "balance: {by} in {layer}",
    "computed": "{by} of {layer} is computed",
    "reused": "{layer}.{by} is used in several ways",
    "part": "it is part of {layer}.{by}",
    "output": "the model returns it",
    "outside": "it meets something that must stay",
    "not_run": "it does not run",
    "no_statistics": "it has no running statistics, so nothing is constant after it",
    "unknown": "what it computes is not understood",
    "differs": "the output differed without it, at {layer}",
    "keep": "{{keep}} names {layer}",
    "min_channels": "{{min_channels={by}}}",
    "round_to": "{{round_to={by}}}",
}
"""The text of every kind, with arguments as `goctconv._checks.spelled` takes them."""
_BY_LAYERS = {"coupled", "sum", "unknown_sum", "product", "border"}
"""Kinds whose ``by`` is a layer; of the others it is an operation, an attribute or a value."""


@dataclass(frozen=True)
class Reason:
    """Why a masked channel stays.

    Attributes:
        kind: What holds it, such as ``"sum"``, ``"border"`` or ``"balance"``.
        layer: The path of the module where it is held; empty if there is none.
        by: What holds it there: another module, an operation, an attribute or a number; empty if that is all.

    Example:
        >>> from goctconv.pruning import Reason
        >>> print(Reason("sum", "layer1.1.conv1", by="layer1.0.bn2"))
        layer1.0.bn2 is live in the sum that layer1.1.conv1 reads
    """

    kind: str
    layer: str = ""
    by: str = ""

    def text(self, spelling: Spelling | None = None) -> str:
        """Return it in words.

        Args:
            spelling: Writes an argument with its value, or with None; as in Python by default.
        """
        known = TEXTS.get(self.kind)  # of a report in a file, anything
        text = known.format(layer=self.layer or "the model", by=self.by or "the model") if known else self.kind
        return spelled(text, spelling or in_python)

    def __str__(self) -> str:
        return self.text()


@dataclass
class ReasonGroup:
    """Reasons of one kind."""

    text: str  # in words, with gaps where the names of layers differ
    places: dict[str, int] = field(default_factory=dict)  # how many channels are held, by what stands in the gaps

    @property
    def count(self) -> int:
        """Channels of all places."""
        return sum(self.places.values())

    def __str__(self) -> str:
        if len(self.places) == 1:
            return self.text
        listed = [f"{place} ({count:,})" for place, count in Counter(self.places).most_common(_PLACES)]
        more = [f"{len(self.places) - _PLACES} more"] if len(self.places) > _PLACES else []
        return f"{self.text}: {', '.join(listed + more)}"


def grouped(counts: Mapping[Reason, int], spelling: Spelling | None = None) -> list[ReasonGroup]:
    """Group reasons by kind, the most frequent first.

    Example:
        >>> counts = {Reason("live", "fc"): 3, Reason("live", "layer1.conv"): 2, Reason("keep", "head"): 1}
        >>> [str(group) for group in grouped(counts)]
        ['it is live where … reads it: fc (3), layer1.conv (2)', 'keep names head']
    """
    kinds: dict[tuple[str, str], dict[Reason, int]] = {}
    for reason, count in counts.items():
        kinds.setdefault((reason.kind, "" if reason.kind in _BY_LAYERS else reason.by), {})[reason] = count
    return sorted((_group(reasons, spelling) for reasons in kinds.values()), key=lambda group: -group.count)


def _group(reasons: Mapping[Reason, int], spelling: Spelling | None) -> ReasonGroup:
    first = next(iter(reasons))
    if len(reasons) == 1:
        return ReasonGroup(first.text(spelling), {first.layer or str(first): reasons[first]})
    differ = {name for name in ("layer", "by") if len({getattr(reason, name) for reason in reasons}) > 1}
    shown = Reason(first.kind, *(_GAP if name in differ else getattr(first, name) for name in ("layer", "by")))
    ordered = sorted(differ, key=lambda name: TEXTS.get(first.kind, "").find(f"{{{name}}}"))
    group = ReasonGroup(shown.text(spelling))
    for reason, count in reasons.items():
        place = " → ".join(getattr(reason, name) or "the model" for name in ordered)
        group.places[place] = group.places.get(place, 0) + count
    return group
