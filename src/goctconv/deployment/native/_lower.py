"""Operations of the C runtime, made of nodes: sums of convolutions with what follows them, and everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._nodes import Network, Node
from ._simplify import simplified, uses_of
from ._sizes import Rules, Shape

Numbers: TypeAlias = NDArray[np.float64]

_SUMS = frozenset({"convolution", "add", "resize", "affine", "pad"})


class Segment(NamedTuple):
    """Some channels of a tensor."""

    tensor: int
    first: int
    channels: int


class Term(NamedTuple):
    """Of a sum: a convolution of a segment. Fields as in the C runtime."""

    tensor: int
    first: int
    channels: int
    kh: int = 1
    kw: int = 1
    dy: int = 1
    dx: int = 1
    py: int = 0
    px: int = 0
    sy: int = 1
    sx: int = 1


class Addend(NamedTuple):
    """Of a sum: a tensor of its size, or resized to it."""

    tensor: int
    first: int
    kind: str
    fy: float = 0
    fx: float = 0


class Activation(NamedTuple):
    """What is applied to the result; slopes lie among the weights."""

    kind: str = "NONE"
    lo: float = 0
    hi: float = 0
    slope: int = 0


_PLAIN = Activation()


@dataclass
class Operation:
    """A row of the table of operations."""

    kind: str
    out: int
    first: int = 0
    count: int = 0
    groups: int = 1
    terms: list[Term] = field(default_factory=list)
    addends: list[Addend] = field(default_factory=list)
    taps: int = 0
    weight: int = 0
    bias: int = 0
    act: Activation = _PLAIN
    weight2: int = -1
    bias2: int = -1
    act2: Activation = _PLAIN
    window: tuple[int, int, int, int, int, int] = (1, 1, 1, 1, 0, 0)
    joins: bool = False

    def reads(self) -> set[int]:
        """Return the tensors that it reads."""
        return {term.tensor for term in self.terms} | {addend.tensor for addend in self.addends}


@dataclass
class _Sum:
    """A sum of convolutions and resized tensors, before it has an output."""

    convolutions: list[Node] = field(default_factory=list)
    addends: list[tuple[Node, Node | None]] = field(default_factory=list)  # and the node that resizes it


class Program:
    """The operations of a network, with weights, tensors and the rules of their sizes.

    Attributes:
        operations: In the order in which they run.
        channels: Planes of every tensor.
        shapes: The rule of the size of every tensor.
        weights: All weights, one behind the other.
        margin: Zeros that rows need behind them.
    """

    def __init__(self, network: Network) -> None:
        self.operations: list[Operation] = []
        self.channels: list[int] = []
        self.shapes: list[Shape] = []
        self.margin = 1
        self.checks: list[tuple[int, int]] = []
        self._weights: list[Numbers] = []
        self._length = 0
        self._network = simplified(network)
        self._rules = Rules(self._network)
        self._uses = uses_of(self._network)
        self._values: dict[Node, list[Segment]] = {}
        self._sums: dict[Node, _Sum] = {}
        self._inlined = self._inline()
        self._phases: dict[tuple[Segment, int], int] = {}
        self._pending_depthwise: dict[Node, tuple[Node, Node]] = {}
        for node in self._network.nodes:
            if node not in self._inlined and (self._uses[node] or node is self._network.output):
                self._values[node] = _LOWER[node.kind](self, node)
        result = self._values[self._network.output]
        terms = [Term(*segment) for segment in result]
        self._join()
        self.operations.append(Operation("RESULT", -1, count=sum(segment.channels for segment in result), terms=terms))

    def _join(self) -> None:
        """Mark sums whose output the next operation alone reads, row by row."""
        readers = Counter(tensor for operation in self.operations for tensor in operation.reads())
        result = {segment.tensor for segment in self._values[self._network.output]}
        is_joined = False
        for operation, after in pairwise(self.operations):
            is_joined = (
                not is_joined
                and operation.kind == after.kind == "SUM"
                and readers[operation.out] == 1
                and operation.out not in result | {after.out}
                and operation.count == self.channels[operation.out]
                and _reads_by_row(after, operation.out)
            )
            operation.joins = is_joined

    @property
    def weights(self) -> NDArray[np.float32]:
        """All weights, one behind the other."""
        return np.concatenate([*self._weights, np.zeros(1)]).astype(np.float32)

    def put(self, numbers: Any) -> int:
        """Append weights, and return where they begin."""
        flat, start = np.asarray(numbers, dtype=np.float64).reshape(-1), self._length
        self._weights.append(flat)
        self._length += len(flat)
        return start

    def _inline(self) -> set[Node]:
        """Return the nodes that are computed by those that read them, and note the parts of sums."""
        inlined: set[Node] = set()
        for node in self._network.nodes:
            if node.kind == "activation":
                (source,) = node.inputs
                if self._uses[source] == 1 and source.kind in _SUMS | {"activation"}:
                    self._into_activation(node, source, inlined)
            elif node.kind == "add":
                self._sums[node] = self._added(node, inlined)
            elif node.kind in {"convolution", "affine", "pad"}:
                self._sums[node] = _Sum([node])
            elif node.kind == "resize":
                self._sums[node] = _Sum([], [(node.inputs[0], node)])
        return inlined

    def _into_activation(self, node: Node, source: Node, inlined: set[Node]) -> None:
        if source.kind == "activation":
            return
        inlined.add(source)
        self._sums[node] = self._sums[source]

    def _added(self, node: Node, inlined: set[Node]) -> _Sum:
        total = _Sum()
        for source in node.inputs:
            part = self._sums.get(source) if source.kind in _SUMS and self._uses[source] == 1 else None
            if part is not None:
                both = [*total.convolutions, *part.convolutions]
                is_grouped = any(_groups_of(conv) > 1 for conv in both)
                if not (is_grouped and len(both) > 1) and not any(_is_depthwise(conv) for conv in both):
                    inlined.add(source)
                    total.convolutions += part.convolutions
                    total.addends += part.addends
                    continue
            total.addends.append((source, None))
        return total

    def new(self, channels: int, shape: Shape) -> int:
        """Return a new tensor."""
        self.channels.append(channels)
        self.shapes.append(shape)
        return len(self.channels) - 1

    def output(self, node: Node) -> int:
        """Return a new tensor for the output of a node."""
        return self.new(node.channels, self._rules.of(node, lambda other: self._values[other][0].tensor))

    def value(self, node: Node) -> list[Segment]:
        """Return where the output of a node lies."""
        return self._values[node]

    def single(self, node: Node) -> Segment:
        """Return where the output of a node lies, in one tensor; it is copied there if need be."""
        segments = self._values[node]
        if len(segments) > 1:
            out, first = self.new(node.channels, ("same", segments[0].tensor)), 0
            for segment in segments:
                addend = Addend(segment.tensor, segment.first, "SAME")
                bias = self.put(np.zeros(segment.channels))
                self.operations.append(Operation("SUM", out, first, segment.channels, addends=[addend], bias=bias))
                first += segment.channels
            self._values[node] = [Segment(out, 0, node.channels)]
        return self._values[node][0]

    def activation(self, node: Node) -> Activation:
        """Return the activation of a node; slopes become weights."""
        if node.kind != "activation":
            return Activation()
        name = node.options["name"]
        if name == "clamp":
            return Activation("CLAMP", node.options["lo"], node.options["hi"])
        if name == "prelu":
            slopes = node.options["slopes"]
            return Activation("PRELU" if np.all((slopes >= 0) & (slopes <= 1)) else "ANY_PRELU", slope=self.put(slopes))
        return Activation(name.upper())

    def sum_of(self, node: Node) -> list[Segment]:
        """Lower a sum."""
        parts = self._sums.get(node) or _Sum([], [(node.inputs[0], None)])
        if node.kind == "activation" and len(parts.convolutions) == 1 and not parts.addends:
            (conv,) = parts.convolutions
            if _is_depthwise(conv):
                return self._depthwise(node, conv)
        elif node.kind == "convolution" and _is_depthwise(node):
            return self._depthwise(node, node)
        groups = max([1, *map(_groups_of, parts.convolutions)])
        terms: list[Term] = []
        weights: list[Numbers] = []
        bias = np.zeros(node.channels)
        for conv in parts.convolutions:
            options = _as_convolution(conv)
            bias = bias + options["bias"]
            segments = [self.single(conv.inputs[0])] if groups > 1 else self.value(conv.inputs[0])
            start = 0
            for segment in segments:
                terms.append(self._term(segment, options))
                weights.append(_by_tap(options["weight"][:, start : start + segment.channels], groups))
                start += segment.channels
        addends = [self._addend(source, resize) for source, resize in parts.addends]
        out = self.output(node)
        self._check_sizes(out, node, parts)
        kernel = np.concatenate(weights, axis=1) if weights else np.zeros((groups, 0, node.channels // groups))
        operation = Operation("SUM", out, 0, node.channels, groups, terms, addends, kernel.shape[1])
        operation.weight, operation.bias, operation.act = self.put(kernel), self.put(bias), self.activation(node)
        self.operations.append(operation)
        return [Segment(out, 0, node.channels)]

    def _check_sizes(self, out: int, node: Node, parts: _Sum) -> None:
        """Note that what is added must have one size."""
        for conv in parts.convolutions:
            if conv is not node:
                self._check_shape(out, conv)
        self.checks += [(out, self._values[source][0].tensor) for source, resize in parts.addends if resize is None]
        for _, resize in parts.addends:
            if resize is not None and resize is not node:
                self._check_shape(out, resize)

    def _check_shape(self, out: int, node: Node) -> None:
        shape = self._rules.of(node, lambda other: self._values[other][0].tensor)
        if shape != self.shapes[out]:
            self.checks.append((out, self.new(0, shape)))

    def _term(self, segment: Segment, options: dict[str, Any]) -> Term:
        (sy, sx), (py, px), (dy, dx) = options["stride"], options["padding"], options["dilation"]
        kh, kw = options["weight"].shape[2:]
        right = options.get("right", px)
        self.margin = max(self.margin, px, right, (kw - 1) * dx - px)
        if sx > 1:
            segment = Segment(self._in_phases(segment, sx), 0, segment.channels)
        return Term(*segment, kh, kw, dy, dx, py, px, sy, sx)

    def _in_phases(self, segment: Segment, step: int) -> int:
        key = (segment, step)
        if key not in self._phases:
            self._phases[key] = self.new(segment.channels * step, ("phases", segment.tensor, step))
            window = (1, 1, 1, step, 0, 0)
            out, count = self._phases[key], segment.channels
            self.operations.append(Operation("PHASES", out, 0, count, terms=[Term(*segment)], window=window))
        return self._phases[key]

    def _addend(self, source: Node, resize: Node | None) -> Addend:
        segment = self.single(source)
        if resize is None:
            return Addend(segment.tensor, segment.first, "SAME")
        scales = [0.0 if scale is None else 1 / scale for scale in resize.options["scales"]]
        return Addend(segment.tensor, segment.first, resize.options["mode"].upper(), scales[0], scales[1])

    def _depthwise(self, node: Node, conv: Node) -> list[Segment]:
        """Lower a depthwise convolution with its activation, and one before it that nothing else reads."""
        source = conv.inputs[0]
        before = self._pending_depthwise.pop(source, None)
        if before is None and self._pairs_with_next(node):
            self._pending_depthwise[node] = (node, conv)
            return []
        chain = [(node, conv)] if before is None else [before, (node, conv)]
        out, start = self.output_as(node, chain[0][1].inputs[0]), 0
        acts = [self.activation(step) for step, _ in chain]
        for segment in self.value(chain[0][1].inputs[0]):
            end = start + segment.channels
            places = [
                (self.put(step.options["weight"][start:end]), self.put(step.options["bias"][start:end]))
                for _, step in chain
            ]
            moved = [act._replace(slope=act.slope + start) if "PRELU" in act.kind else act for act in acts]
            operation = Operation(
                "DEPTHWISE", out, start, segment.channels, terms=[Term(*segment)], weight=places[0][0],
                bias=places[0][1], act=moved[0],
            )  # fmt: skip
            if len(chain) == 2:
                (operation.weight2, operation.bias2), operation.act2 = places[1], moved[1]
            self.operations.append(operation)
            start = end
        return [Segment(out, 0, node.channels)]

    def output_as(self, node: Node, like: Node) -> int:
        """Return a new tensor for the output of a node that has the size of another."""
        return self.new(node.channels, ("same", self.value(like)[0].tensor))

    def _pairs_with_next(self, node: Node) -> bool:
        """Whether a depthwise convolution that ends in a node is read by another one alone."""
        if self._uses[node] != 1 or node is self._network.output:
            return False
        reader = next(other for other in self._network.nodes if node in other.inputs)
        return _is_depthwise(reader) and self._readers_sum(reader)

    def _readers_sum(self, conv: Node) -> bool:
        """Whether a depthwise convolution becomes an operation of its own."""
        if conv not in self._inlined:
            return True
        reader = next(other for other in self._network.nodes if conv in other.inputs)
        return reader.kind == "activation"

    def windowed(self, node: Node) -> list[Segment]:
        """Lower a pool."""
        (source,), options = node.inputs, node.options
        out, start = self.output(node), 0
        window = (*options["kernel"], *options["stride"], *options["padding"])
        for segment in self.value(source):
            terms = [Term(*segment)]
            self.operations.append(
                Operation(node.kind.upper(), out, start, segment.channels, terms=terms, window=window)
            )
            start += segment.channels
        return [Segment(out, 0, node.channels)]

    def mean(self, node: Node) -> list[Segment]:
        """Lower the mean over height and width."""
        out, start = self.output(node), 0
        for segment in self.value(node.inputs[0]):
            self.operations.append(Operation("MEAN", out, start, segment.channels, terms=[Term(*segment)]))
            start += segment.channels
        return [Segment(out, 0, node.channels)]

    def product(self, node: Node) -> list[Segment]:
        """Lower a product of two tensors."""
        segments = [self.single(source) for source in node.inputs]
        out = self.output(node)
        self.operations.append(Operation("PRODUCT", out, 0, node.channels, terms=[Term(*part) for part in segments]))
        if node.inputs[1].sizes != [(1, 1)] * len(node.inputs[1].sizes):
            self.checks.append((out, segments[1].tensor))
        return [Segment(out, 0, node.channels)]

    def image(self, node: Node) -> list[Segment]:
        """Lower the image."""
        out = self.new(node.channels, ("image",))
        self.operations.append(Operation("IMAGE", out, 0, node.channels))
        return [Segment(out, 0, node.channels)]

    def concatenated(self, node: Node) -> list[Segment]:
        """Return what is concatenated, which is not copied."""
        segments = [segment for source in node.inputs for segment in self.value(source)]
        self.checks += [(segments[0].tensor, segment.tensor) for segment in segments[1:]]
        return segments

    def sliced(self, node: Node) -> list[Segment]:
        """Return some channels, which are not copied."""
        start, found = node.options["start"], list[Segment]()
        end, place = start + node.channels, 0
        for tensor, first, count in self.value(node.inputs[0]):
            low, high = max(start, place), min(end, place + count)
            if low < high:
                found.append(Segment(tensor, first + low - place, high - low))
            place += count
        return found


_LOWER: dict[str, Callable[[Program, Node], list[Segment]]] = {
    **dict.fromkeys((*_SUMS, "activation"), Program.sum_of),
    **dict.fromkeys(("max_pool", "avg_pool"), Program.windowed),
    "mean": Program.mean,
    "product": Program.product,
    "image": Program.image,
    "concatenate": Program.concatenated,
    "slice": Program.sliced,
}


def _reads_by_row(operation: Operation, tensor: int) -> bool:
    """Whether a sum reads a tensor, and of it the row alone that it makes."""
    terms = [term[3:] for term in operation.terms if term.tensor == tensor]
    kinds = [addend.kind for addend in operation.addends if addend.tensor == tensor]
    is_by_row = set(terms) <= {Term(0, 0, 0)[3:]} and set(kinds) <= {"SAME"}
    return is_by_row and bool(terms or kinds)


def _groups_of(conv: Node) -> int:
    return conv.channels if conv.kind in {"affine", "pad"} else int(conv.options["groups"])


def _is_depthwise(conv: Node) -> bool:
    """Whether a convolution has the runtime's own form: 3x3, one channel to one."""
    if conv.kind != "convolution" or conv.options["weight"].shape[1:] != (1, 3, 3):
        return False
    options = conv.options
    is_plain = options["stride"] == options["padding"] == options["dilation"] == (1, 1)
    return is_plain and bool(options["groups"] == conv.channels == conv.inputs[0].channels)


def _as_convolution(node: Node) -> dict[str, Any]:
    """Return the options of a convolution that does what a node does."""
    if node.kind == "convolution":
        return node.options
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": node.channels}
    if node.kind == "affine":
        return plain | {"weight": node.options["factor"].reshape(-1, 1, 1, 1), "bias": node.options["shift"]}
    left, right, top, _ = node.options["pad"]
    weight, bias = np.ones((node.channels, 1, 1, 1)), np.zeros(node.channels)
    return plain | {"weight": weight, "bias": bias, "padding": (top, left), "right": right}


def _by_tap(weight: Numbers, groups: int) -> Numbers:
    """Return weights (co, ci, kh, kw) by group, tap and output channel of the group."""
    count = len(weight) // groups
    by_tap: Numbers = weight.reshape(groups, count, -1).transpose(0, 2, 1)
    return by_tap


def lifetimes(operations: Sequence[Operation], tensors: int) -> tuple[list[int], list[int]]:
    """Return the operations that make every tensor first, and that read it last."""
    born, dies = [-1] * tensors, [-1] * tensors
    for place, operation in enumerate(operations):
        if operation.out >= 0:
            born[operation.out] = place if born[operation.out] < 0 else born[operation.out]
            dies[operation.out] = place
        for tensor in operation.reads():  # rows of two joined operations take turns
            dies[tensor] = place + operation.joins
    return born, dies
