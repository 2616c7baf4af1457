"""The recording of a network as nodes: a forward pass for some sizes, seen operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..._checks import ArgumentError
from ...graph import Observer, Operation, evaluating, recording
from ._nodes import Network, Node, NotSupportedError, Size

_BATCH = 2  # so that a batch is told from one pixel
# Odd ones first; a network that halves and concatenates without care takes multiples of 64 alone.
_SIZES: tuple[tuple[Size, ...], ...] = (
    ((67, 83), (96, 64), (101, 131), (139, 70)),
    ((64, 128), (192, 64), (128, 320), (256, 192)),
)

Rule: TypeAlias = Callable[["Recorder", Operation], "Node"]
_RULES: dict[str, Rule] = {}
_DROPPED = object()  # in place of the node of a tensor that nothing may read


def record(network: nn.Module, channels: int) -> Network:
    """Return a network as nodes, the same for images of several sizes.

    Raises:
        NotSupportedError: An operation that the engine does not have, named with its module.
        ArgumentError: The network does not run on an image.
    """
    failure: Exception | None = None
    for images in _SIZES:
        try:
            found = [_recorded(network, channels, image) for image in images]
        except NotSupportedError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a network raises that takes other sizes
            failure = failure or error
            continue
        return _merged(found, list(images))
    problem = f"does not run on an image of (1, {channels}, 67, 83), nor of (1, {channels}, 64, 128) ({failure})"
    raise ArgumentError("model", network, problem=problem, cure="deploy it with {backend='eager'}") from failure


def _recorded(network: nn.Module, channels: int, size: Size) -> Network:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(_BATCH, channels, *size, generator=generator)
    recorder = Recorder(image)
    with torch.no_grad(), evaluating(network), recording(network, recorder):
        output = network(image)
    if not isinstance(output, Tensor):
        raise NotSupportedError(f"an output of type {type(output).__name__}", "", "expected one tensor")
    node = recorder.node_of(output)
    if node is None:
        raise NotSupportedError("an output that does not depend on the image", "")
    return Network(recorder.nodes, node, output.dim() == 2, [size])


def _merged(found: list[Network], images: list[Size]) -> Network:
    first = found[0]
    places = {node: place for place, node in enumerate(first.nodes)}
    for other in found[1:]:
        theirs = {node: place for place, node in enumerate(other.nodes)}
        pairs = list(zip(first.nodes, other.nodes, strict=False))
        for a, b in pairs:
            if _described(a, places) != _described(b, theirs):
                raise a.refuse("what runs depends on the size of the image")
            a.sizes += b.sizes
        if len(first.nodes) != len(other.nodes):
            raise first.nodes[-1].refuse("what runs depends on the size of the image")
    return Network(first.nodes, first.output, first.is_flat, images)


def _described(node: Node, places: dict[Node, int]) -> tuple[Any, ...]:
    plain = {name: value for name, value in node.options.items() if not isinstance(value, np.ndarray)}
    return node.kind, node.channels, [places[source] for source in node.inputs], plain


class Recorder(Observer):
    """Makes nodes of the operations that read the image, directly or not; what others compute is constant."""

    def __init__(self, image: Tensor) -> None:
        self.nodes: list[Node] = []
        self._kept: list[Tensor] = [image]  # so that no other tensor gets the identity of one
        self._nodes: dict[int, Any] = {}
        self._by_storage: dict[int, set[int]] = {}
        self._set(image, self.add(Node("image", [], image.shape[1], operator="the image", sizes=[_size(image)])))

    def add(self, node: Node) -> Node:
        """Append a node."""
        self.nodes.append(node)
        return node

    def node_of(self, tensor: object) -> Node | None:
        """Return the node of a tensor; None if it is constant."""
        node = self._nodes.get(id(tensor))
        if node is _DROPPED:
            raise NotSupportedError("a view of a tensor that was changed in place, or an index of a pool", "")
        return node if isinstance(node, Node) else None

    def _set(self, tensor: Tensor, node: object) -> None:
        self._kept.append(tensor)
        self._nodes[id(tensor)] = node
        if tensor.numel():
            self._by_storage.setdefault(tensor.untyped_storage().data_ptr(), set()).add(id(tensor))

    def after(self, operation: Operation) -> None:
        """Make a node of an operation."""
        self._kept += operation.results
        if not any(id(tensor) in self._nodes for tensor in operation.tensors):
            return None
        rule = _RULES.get(operation.name)
        if rule is None:
            raise NotSupportedError(f"aten.{operation.name}", operation.path)
        results = operation.results
        if operation.name in _OF_MANY:
            return _OF_MANY[operation.name](self, operation)
        node = rule(self, operation)
        node.path, node.operator = node.path or operation.path, node.operator or f"aten.{operation.name}"
        if not node.sizes:
            node.sizes = [_size(results[0])]
        if operation.is_in_place and results[0].numel():
            for other in self._by_storage[results[0].untyped_storage().data_ptr()]:
                self._nodes[other] = _DROPPED
            self._set(operation.args[0], node)
        for result in results[1:]:
            self._set(result, _DROPPED)
        return self._set(results[0], node)

    def source(self, operation: Operation, name: str = "self") -> Node:
        """Return the node of an argument, which must not be constant."""
        node = self.node_of(operation.arguments[name])
        if node is None:
            raise refuse(operation, f"{name} is constant")
        return node

    def constant(self, operation: Operation, value: Any) -> Any:
        """Return an argument that does not depend on the image, as an array."""
        if value is None:
            return None
        if isinstance(value, Tensor):
            if id(value) in self._nodes:
                raise refuse(operation, "a weight that depends on the image")
            return value.detach().double().numpy().copy()
        return np.float64(value)


def refuse(operation: Operation, problem: str = "") -> NotSupportedError:
    """Return the error that names an operation."""
    return NotSupportedError(f"aten.{operation.name}", operation.path, problem)


def _size(tensor: Tensor) -> Size:
    return (tensor.shape[2], tensor.shape[3]) if tensor.dim() == 4 else (1, 1)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _channels(operation: Operation) -> int:
    """Return the number of channels of the first result, (B, C, H, W) or (B, C)."""
    result = operation.results[0]
    if result.dim() not in {2, 4} or result.shape[0] != _BATCH:
        raise refuse(operation, f"its result is {tuple(result.shape)}, expected (B, C, H, W) or (B, C)")
    if not result.is_floating_point():
        raise refuse(operation, f"its result is {result.dtype}")
    return result.shape[1]


def _pair(values: Sequence[int]) -> tuple[int, int]:
    pair = (*values, *values)[:2] if len(values) == 1 else tuple(values)
    return int(pair[0]), int(pair[1])


@_rule("convolution", "conv2d", "_convolution")
def _convolution(recorder: Recorder, operation: Operation) -> Node:
    given = operation.arguments
    weight = recorder.constant(operation, given["weight"])
    if weight.ndim != 4:
        raise refuse(operation, f"a convolution in {weight.ndim - 2} dimensions")
    if given.get("transposed", False):
        raise refuse(operation, "transposed")
    bias = recorder.constant(operation, given.get("bias"))
    options = {
        "weight": weight,
        "bias": np.zeros(len(weight)) if bias is None else bias,
        **{name: _pair(given[name]) for name in ("stride", "padding", "dilation")},
        "groups": int(given["groups"]),
    }
    return recorder.add(Node("convolution", [recorder.source(operation, "input")], _channels(operation), options))


@_rule("addmm", "mm", "linear")
def _linear(recorder: Recorder, operation: Operation) -> Node:
    given = operation.arguments
    name, matrix = {"addmm": ("mat1", "mat2"), "mm": ("self", "mat2"), "linear": ("input", "weight")}[operation.name]
    weight = recorder.constant(operation, given[matrix])
    weight = weight if operation.name == "linear" else weight.T
    factor = {key: float(given.get(key, 1)) for key in ("alpha", "beta")}
    bias = recorder.constant(operation, given.get("self" if operation.name == "addmm" else "bias"))
    bias = np.zeros(len(weight)) if bias is None else np.broadcast_to(bias, (len(weight),)) * factor["beta"]
    options = {"weight": (weight * factor["alpha"])[:, :, None, None], "bias": bias, "groups": 1}
    options |= {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    return recorder.add(Node("convolution", [recorder.source(operation, name)], _channels(operation), options))


def _activation(recorder: Recorder, operation: Operation, name: str, **options: Any) -> Node:
    options = {"name": name, **options}
    return recorder.add(Node("activation", [recorder.source(operation)], _channels(operation), options))


@_rule("relu", "hardswish", "sigmoid", "hardsigmoid", "silu", "tanh")
def _plain_activation(recorder: Recorder, operation: Operation) -> Node:
    if operation.name == "relu":
        return _activation(recorder, operation, "clamp", lo=0.0, hi=float("inf"))
    return _activation(recorder, operation, operation.name)


@_rule("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clamp(recorder: Recorder, operation: Operation) -> Node:
    given = operation.arguments
    lo, hi = given.get("min_val", given.get("min")), given.get("max_val", given.get("max"))
    if isinstance(lo, Tensor) or isinstance(hi, Tensor):
        raise refuse(operation, "bounds that are tensors")
    infinity = float("inf")
    bounds = {"lo": -infinity if lo is None else float(lo), "hi": infinity if hi is None else float(hi)}
    return _activation(recorder, operation, "clamp", **bounds)


@_rule("prelu", "_prelu_kernel", "leaky_relu")
def _prelu(recorder: Recorder, operation: Operation) -> Node:
    given = operation.arguments
    slopes = recorder.constant(operation, given["weight"] if "weight" in given else given["negative_slope"])
    return _activation(
        recorder, operation, "prelu", slopes=np.broadcast_to(slopes.reshape(-1), (_channels(operation),))
    )


@_rule("_native_batch_norm_legit_no_training", "native_batch_norm", "batch_norm", "cudnn_batch_norm")
def _batch_norm(recorder: Recorder, operation: Operation) -> Node:
    given = operation.arguments
    if given.get("training", False):
        raise refuse(operation, "statistics of the batch")
    mean, variance = (recorder.constant(operation, given[f"running_{name}"]) for name in ("mean", "var"))
    weight, bias = (recorder.constant(operation, given[name]) for name in ("weight", "bias"))
    factor = (1 if weight is None else weight) / np.sqrt(variance + given["eps"])
    shift = (0 if bias is None else bias) - mean * factor
    source = recorder.source(operation, "input")
    return recorder.add(Node("affine", [source], _channels(operation), {"factor": factor, "shift": shift}))


@_rule("add", "sub", "rsub", "mul", "div", "neg")
def _arithmetic(recorder: Recorder, operation: Operation) -> Node:
    given, channels = operation.arguments, _channels(operation)
    a, b = given["self"], given.get("other", -1.0)
    alpha = float(given.get("alpha", 1))
    nodes = [recorder.node_of(value) for value in (a, b)]
    name = operation.name
    if nodes[0] is not None and nodes[1] is not None:
        if name == "mul":
            return recorder.add(Node("product", _gated(nodes, operation), channels))
        if name not in {"add", "sub", "rsub"}:
            raise refuse(operation, "of two tensors that depend on the image")
        signs = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[name]
        parts = [_scaled(recorder, operation, node, sign) for node, sign in zip(nodes, signs, strict=True) if node]
        return recorder.add(Node("add", [_spread(recorder, operation, part) for part in parts], channels))
    node = nodes[0] or nodes[1]
    value = _per_channel(operation, recorder.constant(operation, b if nodes[0] else a), channels)
    is_first = nodes[0] is not None
    if name == "div" and not is_first:
        raise refuse(operation, "a quotient by a tensor that depends on the image")
    unit, zero = np.ones(channels), np.zeros(channels)
    factor, shift = {
        "neg": (-unit, zero),
        "mul": (value, zero),
        "div": (1 / value, zero) if name == "div" else (unit, zero),
        "add": (unit, value * alpha) if is_first else (unit * alpha, value),
        "sub": (unit, -value * alpha) if is_first else (-unit * alpha, value),
        "rsub": (-unit * alpha, value) if is_first else (unit, -value * alpha),
    }[name]
    options = {"factor": factor, "shift": shift}
    return recorder.add(Node("affine", [_spread(recorder, operation, node)], channels, options))


def _per_channel(operation: Operation, value: Any, channels: int) -> Any:
    """Return a constant as one number for every channel."""
    value, rank = np.asarray(value), operation.results[0].dim()
    shape = (1,) * (rank - value.ndim) + value.shape
    if len(shape) != rank or shape[0] != 1 or any(side != 1 for side in shape[2:]) or shape[1] not in {1, channels}:
        raise refuse(operation, f"a constant of shape {value.shape}, expected one number for each channel")
    return np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float64)


def _gated(nodes: Sequence[Node | None], operation: Operation) -> list[Node]:
    """Return the factors of a product, one pixel last."""
    a, b = (node for node in nodes if node)
    size = _size(operation.results[0])
    if a.sizes[0] != size:
        a, b = b, a
    if a.sizes[0] != size or b.sizes[0] not in {size, (1, 1)} or a.channels != b.channels:
        raise refuse(operation, "factors of other shapes")
    return [a, b]


def _scaled(recorder: Recorder, operation: Operation, node: Node, factor: float) -> Node:
    if factor == 1:
        return node
    options = {"factor": np.full(node.channels, factor), "shift": np.zeros(node.channels)}
    return recorder.add(
        Node("affine", [node], node.channels, options, operation.path, f"aten.{operation.name}", list(node.sizes))
    )


def _spread(recorder: Recorder, operation: Operation, node: Node | None) -> Node:
    """Return a node as large as the result."""
    result = operation.results[0]
    if node is None or node.channels != result.shape[1]:
        raise refuse(operation, "tensors of different numbers of channels")
    size = _size(result)
    if node.sizes[0] == size:
        return node
    if node.sizes[0] != (1, 1):
        raise refuse(operation, "tensors of different sizes")
    return recorder.add(
        Node("resize", [node], node.channels, _nearest(), operation.path, f"aten.{operation.name}", [size])
    )


def _nearest() -> dict[str, Any]:
    return {"mode": "nearest", "scales": (None, None)}


@_rule("expand")
def _expand(recorder: Recorder, operation: Operation) -> Node:
    node, channels = recorder.source(operation), _channels(operation)
    if _size(operation.results[0]) == node.sizes[0] and channels == node.channels:
        return node
    return _spread(recorder, operation, node)


@_rule("max_pool2d_with_indices", "max_pool2d", "avg_pool2d")
def _pool(recorder: Recorder, operation: Operation) -> Node:
    given, channels = operation.arguments, _channels(operation)
    kernel = _pair(given["kernel_size"])
    stride = _pair(given["stride"]) if given["stride"] else kernel
    padding, is_mean = _pair(given["padding"]), operation.name == "avg_pool2d"
    if _pair(given.get("dilation", [1])) != (1, 1):
        raise refuse(operation, "a pool with dilation")
    if is_mean and (given["ceil_mode"] or given["divisor_override"] is not None):
        raise refuse(operation, "ceil_mode or divisor_override")
    if is_mean and not given["count_include_pad"] and padding != (0, 0):
        raise refuse(operation, "count_include_pad=False with padding")
    options = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": bool(given["ceil_mode"])}
    return recorder.add(Node("avg_pool" if is_mean else "max_pool", [recorder.source(operation)], channels, options))


@_rule("mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d")
def _mean(recorder: Recorder, operation: Operation) -> Node:
    node, given, channels = recorder.source(operation), operation.arguments, _channels(operation)
    if operation.name == "mean":
        rank = given["self"].dim()
        if rank != 4 or sorted(dim % rank for dim in given.get("dim") or []) != [2, 3]:
            raise refuse(operation, "a mean over other dimensions than height and width")
    elif list(given["output_size"]) != [1, 1]:
        raise refuse(operation, f"output_size={list(given['output_size'])}, expected 1")
    return recorder.add(Node("mean", [node], channels))


@_rule("upsample_bilinear2d", "upsample_nearest2d", "_upsample_nearest_exact2d")
def _resize(recorder: Recorder, operation: Operation) -> Node:
    given = operation.arguments
    mode = {"upsample_bilinear2d": "bilinear", "upsample_nearest2d": "nearest"}.get(operation.name, "nearest_exact")
    if given.get("align_corners", False):
        mode = "bilinear_corners"
    scales = given.get("scale_factors") or (given.get("scales_h"), given.get("scales_w"))
    options = {"mode": mode, "scales": tuple(None if scale is None else float(scale) for scale in scales)}
    source = recorder.source(operation, "self" if "self" in given else "input")
    return recorder.add(Node("resize", [source], _channels(operation), options))


@_rule("cat")
def _concatenate(recorder: Recorder, operation: Operation) -> Node:
    tensors = [tensor for tensor in operation.arguments["tensors"] if tensor.numel()]
    rank = operation.results[0].dim()
    if operation.arguments["dim"] % rank != 1:
        raise refuse(operation, "along another dimension than the channels")
    nodes = [recorder.node_of(tensor) for tensor in tensors]
    if any(node is None for node in nodes):
        raise refuse(operation, "with a constant")
    return recorder.add(Node("concatenate", [node for node in nodes if node], _channels(operation)))


@_rule("constant_pad_nd")
def _pad(recorder: Recorder, operation: Operation) -> Node:
    given, channels = operation.arguments, _channels(operation)
    pad = [*map(int, given["pad"]), 0, 0, 0, 0][:4]
    if float(given["value"]) != 0 or min(pad) < 0 or len(given["pad"]) > 4:
        raise refuse(operation, "other than zeros around the image")
    return recorder.add(Node("pad", [recorder.source(operation)], channels, {"pad": tuple(pad)}))


@_rule("alias", "clone", "detach", "_to_copy", "contiguous", "lift_fresh", "positive", "dropout", "native_dropout")
def _identity(recorder: Recorder, operation: Operation) -> Node:
    _channels(operation)
    return recorder.source(operation, "self" if "self" in operation.arguments else "input")


@_rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "as_strided")
def _view(recorder: Recorder, operation: Operation) -> Node:
    node, result = recorder.source(operation), operation.results[0]
    shape = tuple(result.shape)
    if shape == tuple(operation.arguments["self"].shape):
        return node
    is_pixel = node.sizes[0] == (1, 1) and shape in {(_BATCH, node.channels), (_BATCH, node.channels, 1, 1)}
    if not is_pixel and result.dim() == 3 and node.sizes[0] == (1, 1):  # on its way from (B, C) to (B, C, 1, 1)
        is_pixel = shape == (_BATCH, node.channels, 1)
    if not is_pixel:
        raise refuse(operation, f"from {tuple(operation.arguments['self'].shape)} to {shape}")
    return node


@_rule("slice", "narrow")
def _slice(recorder: Recorder, operation: Operation) -> Node:
    given, node = operation.arguments, recorder.source(operation)
    result, whole = operation.results[0], given["self"].shape
    if result.shape == whole:
        return node
    if given["dim"] % len(whole) != 1 or given.get("step", 1) != 1:
        raise refuse(operation, "along another dimension than the channels")
    start = int(given.get("start") or 0)
    start = min(start + whole[1] if start < 0 else start, whole[1])
    return _sliced(recorder, operation, node, start, result)


def _sliced(recorder: Recorder, operation: Operation, node: Node, start: int, result: Tensor) -> Node:
    options = {"start": start}
    name = f"aten.{operation.name}"
    return recorder.add(Node("slice", [node], result.shape[1], options, operation.path, name, [_size(result)]))


def _split(recorder: Recorder, operation: Operation) -> None:
    if operation.arguments["dim"] % operation.arguments["self"].dim() != 1:
        raise refuse(operation, "along another dimension than the channels")
    start, node = 0, recorder.source(operation)
    for result in operation.results:
        recorder._set(result, _sliced(recorder, operation, node, start, result))  # noqa: SLF001  # of this module
        start += result.shape[1]


_OF_MANY: dict[str, Callable[[Recorder, Operation], None]] = dict.fromkeys(("split", "split_with_sizes"), _split)
_RULES.update(dict.fromkeys(_OF_MANY, _slice))
