"""Kinds of masks of a data set: one rule for all of its files, and what to say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from ..._checks import (
    ArgumentError,
    ArgumentTypeError,
    ArgumentWarning,
    Spelling,
    check_integer,
    escaped,
    in_python,
    spelled,
    warn_caller,
)
from ._images import MAX_PIXELS, ImageError, damaged_data, open_path
from ._masks import HALF, IGNORED, Kind, Look, MaskRule, look_at
from ._pairs import DataSet, ImagePair
from ._read import default_workers

_LOOKED_AT = 256  # masks of a mode that are decoded, evenly spread over the data set
_PIXELS = 100_000_000  # of these at most, for masks as large as the first
_FEWEST = 8
_SMALL = 100  # values up to which grey may be numbers of classes
_HIGH = 200  # a level that every data set of grey masks reaches
_SHOWN = 12  # values that a message names

_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_WITH_COLORS = frozenset({"RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"})

_TEXTS: dict[Kind, str] = {
    "grey": "grey: above 128 is foreground",
    "ones": "with the values 0 and 1 alone: 1 is foreground",
    "index": "with a palette of colours: every index but 0 is foreground, 255 is ignored",
    "color": "in colour: what is not black is foreground",
    "alpha": "with transparency: what is opaque is foreground",
    "chosen": "read by {foreground}",
}
_CURE = "pass the values of the objects, such as {foreground=(1, 2)}"


class MaskWarning(ArgumentWarning):
    """Warns of masks that may mean something else than what is read, or nothing."""

    def __init__(self, finding: MaskFinding) -> None:
        self.finding = finding
        super().__init__("masks", finding.data, problem=finding.about)

    def text(self, spelling: Spelling | None = None) -> str:
        """Return the finding's message."""
        return self.finding.text(spelling)


@dataclass(frozen=True)
class MaskFinding:
    """What was found out about the masks of a data set.

    Attributes:
        data: The data set's name.
        about: What the finding is about; ``kinds`` is no reason to worry.
        masks: How many masks were looked at.
        kinds: How many of them are of each kind.
        examples: Names of files, by kind.
        values: The grey values that occur; of empty masks, their highest one.
    """

    data: str
    about: str  # "kinds", "several", "labels", "empty" or "full"
    masks: int
    kinds: dict[Kind, int]
    examples: dict[Kind, tuple[str, ...]]
    values: tuple[int, ...] = ()
    foreground: tuple[int, ...] | None = None

    @property
    def is_doubt(self) -> bool:
        """Whether the masks may mean something else."""
        return self.about != "kinds"

    def text(self, spelling: Spelling | None = None) -> str:
        """Return the message, in Python's words or in those of a command line."""
        return spelled(f"{escaped(self.data)}: {self._words()}", spelling or in_python)

    def _words(self) -> str:
        if self.about == "empty":
            return self._empty()
        if self.about == "full":
            cure = "check that the background is black, or index 0 of a palette"
            return f"every pixel of {_masks(self.masks)} is foreground, so there is nothing to tell apart: {cure}"
        if self.about == "labels":
            shown = ", ".join(map(str, self.values[:_SHOWN])) + (", ..." if len(self.values) > _SHOWN else "")
            many = f"{_masks(self.kinds['grey'])} ({self._files('grey')})"
            return f"{many} have the grey values {shown}, as label maps do, and only values above 128 count: {_CURE}"
        parts = [f"{count} {_TEXTS[kind]} ({self._files(kind)})" for kind, count in self.kinds.items()]
        if self.about == "several":
            return f"the masks are understood in several ways: {'; '.join(parts)}: check that they belong together"
        return f"masks: {'; '.join(parts)}"

    def _empty(self) -> str:
        if self.foreground is not None:
            named = f"{{foreground={self.foreground!r}}}"
            return f"none of {_masks(self.masks)} holds a value of {named}, so all are empty: check the values"
        if not self.values:
            return f"all {_masks(self.masks)} are empty, so there is nothing to find: check that they are masks"
        problem = f"are empty: their values, {self.values[-1]} at most, are in the lower half of 16 bits"
        return f"all {_masks(self.masks)} {problem}: pass {{foreground={self.values!r}}} if these are the objects"

    def _files(self, kind: Kind) -> str:
        names = self.examples[kind]
        return ", ".join(map(escaped, names)) + (", ..." if self.kinds[kind] > len(names) else "")


def _masks(count: int) -> str:
    return "1 mask" if count == 1 else f"{count} masks"


class UnderstoodMasks(NamedTuple):
    """Pairs that know how their masks are read, and what was found out."""

    pairs: tuple[ImagePair, ...]
    findings: tuple[MaskFinding, ...]


def check_foreground(foreground: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the values that are foreground as a tuple."""
    if foreground is None:
        return None
    values = (foreground,) if not isinstance(foreground, Iterable) else tuple(foreground)
    return tuple(check_integer("foreground", value, 0, 65535) for value in values)


def understand_masks(
    pairs: DataSet | Iterable[ImagePair], foreground: int | Sequence[int] | None = None
) -> UnderstoodMasks:
    """Decide how the masks of each data set among pairs are read; pairs that know it already stay as they are."""
    every, chosen = tuple(pairs), check_foreground(foreground)
    open_sources: dict[str, list[ImagePair]] = {}
    for pair in every:
        if not isinstance(pair, ImagePair):
            raise ArgumentTypeError("pairs", pair, "pairs of photographs and masks", "pass find_pairs(FOLDER)")
        if pair.rule is None:
            open_sources.setdefault(pair.source, []).append(pair)
    rules: dict[str, MaskRule] = {}
    findings: list[MaskFinding] = []
    name = pairs.name if isinstance(pairs, DataSet) else "the data"
    for source, members in open_sources.items():
        looks = _look_at_some(members, chosen)
        rules[source] = _decide(list(looks.values()), chosen)
        findings += _findings(source or name, looks, rules[source])
    known = tuple(pair if pair.rule is not None else pair._replace(rule=rules.get(pair.source)) for pair in every)
    return UnderstoodMasks(known, tuple(findings))


def warn_of_masks(findings: Iterable[MaskFinding], *, kinds: bool = False) -> None:
    """Warn of masks that may mean something else; with ``kinds``, say of others too what they are."""
    for finding in findings:
        if kinds or finding.is_doubt:
            warn_caller(MaskWarning(finding))


def with_rules(data: DataSet, foreground: int | Sequence[int] | None) -> tuple[DataSet, tuple[MaskFinding, ...]]:
    """Return a data set whose pairs know how their masks are read, and what was found out."""
    found = understand_masks(data, foreground)
    return replace(data, pairs=found.pairs), found.findings


def _look_at_some(pairs: Sequence[ImagePair], foreground: tuple[int, ...] | None) -> dict[ImagePair, Look]:
    """Decode some masks of each mode; the headers of all tell their modes."""
    with ThreadPoolExecutor(default_workers(), thread_name_prefix="goctconv") as executor:
        modes: dict[str, list[ImagePair]] = {}
        pixels = 1
        for pair, header in zip(pairs, executor.map(_header, pairs), strict=True):
            if header is not None:
                modes.setdefault(header[0], []).append(pair)
                pixels = max(pixels, header[1])
        most = max(_FEWEST, min(_LOOKED_AT, _PIXELS // pixels))
        some = [pair for members in modes.values() for pair in _spread(members, most)]
        looks = executor.map(lambda pair: look_at(pair.mask, foreground), some)
        return {pair: look for pair, look in zip(some, looks, strict=True) if look is not None}


def _header(pair: ImagePair) -> tuple[str, int] | None:
    """Return the mode of a mask and the number of its pixels."""
    try:
        with open_path(pair.mask, MAX_PIXELS) as opened, damaged_data(str(pair.mask)):
            return opened.mode, opened.width * opened.height
    except ImageError:
        return None


def _spread(pairs: Sequence[ImagePair], most: int) -> list[ImagePair]:
    if len(pairs) <= most:
        return list(pairs)
    return [pairs[place] for place in np.linspace(0, len(pairs) - 1, most).round().astype(int)]


def _decide(looks: Sequence[Look], foreground: tuple[int, ...] | None) -> MaskRule:
    if foreground is not None:
        colored = sum(look.kind == "color" for look in looks)
        if colored and colored == len(looks):
            problem = f"are values of masks, but {_masks(colored)} are coloured"
            raise ArgumentError("foreground", foreground, problem=problem, cure="leave {foreground} out")
        return MaskRule(foreground=foreground)

    def most(modes: Collection[str], kind: Kind) -> bool:
        full = [look.kind == kind for look in looks if look.mode in modes and look.highest > 0]
        return bool(full) and 2 * sum(full) >= len(full)

    greys = [look for look in looks if look.kind == "grey"]
    indices = [look.values for look in looks if look.kind == "index" and look.values is not None]
    deep = [look.highest for look in greys if look.mode.startswith("I")]
    return MaskRule(
        by_index=most({"P", "PA"}, "index"),
        by_alpha=most(_WITH_ALPHA, "alpha"),
        not_black=most(_WITH_COLORS, "color"),
        ones=max((look.highest for look in greys if look.mode != "1"), default=0) == 1,
        shallow=bool(deep) and max(deep) <= 255,
        no_void=bool(indices) and not any(values[1:IGNORED].any() for values in indices),
    )


def _read_as(look: Look, rule: MaskRule) -> Kind:
    """Return the kind of a mask by the rule of its data set."""
    if look.kind != "grey":
        return look.kind
    if rule.by_index and look.mode in {"P", "PA"}:
        return "index"
    if rule.by_alpha and look.mode in _WITH_ALPHA:
        return "alpha"
    if rule.not_black and look.mode in _WITH_COLORS:
        return "color"
    return "ones" if rule.ones and look.mode != "1" else "grey"


def _is_empty(look: Look, rule: MaskRule) -> bool:
    if look.kind == "index" and rule.no_void and look.values is not None:
        return not look.values[1:].any()
    return look.is_empty if _read_as(look, rule) == look.kind else look.highest == 0


def _findings(name: str, looks: dict[ImagePair, Look], rule: MaskRule) -> list[MaskFinding]:
    members: dict[Kind, list[str]] = {}
    for pair, look in looks.items():
        if rule.foreground is not None and look.kind == "color":
            continue  # reading it is an error, which names it
        if not (look.is_empty and look.kind == "grey" and look.highest == 0):  # black is empty in every way
            members.setdefault(_read_as(look, rule), []).append(pair.mask.name)
    kinds = {kind: len(names) for kind, names in sorted(members.items(), key=lambda item: -len(item[1]))}
    examples = {kind: tuple(names[:3]) for kind, names in members.items()}
    found = partial(MaskFinding, name, masks=len(looks), kinds=kinds, examples=examples, foreground=rule.foreground)
    findings = []
    if len(kinds) > 1:
        findings.append(found(about="several"))
    elif kinds and kinds.keys() <= {"ones", "index", "color", "alpha"}:
        findings.append(found(about="kinds"))
    values = _label_values([look for look in looks.values() if _read_as(look, rule) == "grey"])
    if values:
        findings.append(found(about="labels", values=values))
    elif looks and all(_is_empty(look, rule) for look in looks.values()):
        high = max(look.highest for look in looks.values())
        deep = rule.foreground is None and 255 < high < 65535
        findings.append(found(about="empty", values=(high,) if deep else ()))
    elif looks and all(look.is_full for look in looks.values()):
        findings.append(found(about="full"))
    return findings


def _label_values(greys: Sequence[Look]) -> tuple[int, ...]:
    """Return the values of grey masks if they look like numbers of classes, such as 0, 1, 2 and perhaps 255."""
    counts = Counter[int]()
    for look in greys:
        if look.values is not None:
            counts.update({int(value): int(look.values[value]) for value in np.flatnonzero(look.values)})
    small = sum(count for value, count in counts.items() if 0 < value <= _SMALL)
    between = sum(count for value, count in counts.items() if _SMALL < value < 255)
    high = max((look.highest for look in greys), default=0)
    numbers = small > 0 and between == 0 and small > counts[255]
    return tuple(sorted(counts)) if numbers or HALF < high <= _HIGH or (0 < high <= HALF and counts) else ()
