"""What each kind of operation does to channels: a function each, which returns whether it understood the operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._facts import Blocks, Norm, Reader
from ._lookups import Lookups, Operation, aligned, tensors_in
from ._moves import moved
from ._products import attention, product
from ._shadows import (
    FIRST,
    FROZEN,
    Shadow,
    along,
    by_dimension,
    changes,
    compressed,
    joined,
    tidy,
    uniform,
)

Rule = Callable[[Lookups, Operation], bool]


def convolution(t: Lookups, op: Operation) -> bool:
    """A convolution: depthwise passes channels on, a dense or grouped one mixes them."""
    source, weight, groups = op.arguments["input"], op.arguments["weight"], op.arguments["groups"]
    labels = None if op.shadow is None else along(op.shadow.labels, 1)
    if op.shadow is None or labels is None or op.arguments.get("transposed"):
        return False
    if groups > 1 and groups == source.shape[1]:
        return _depthwise(t, op, op.shadow, labels)
    named = t.weight_of(weight)
    if named is None:
        return False
    name, factor = named
    found = t.stained(source)
    constant, values = t.constants(source, op.shadow, 1) if found is None else found
    padded = found is not None or _is_padded(op)
    outputs = t.row_labels(name, 0, weight.shape[0])
    bias = t.bind_bias(op.arguments.get("bias"), outputs)
    reader = Reader(t.where, name, bias, labels, constant, values, padded, groups, outputs, factor)
    t.add_reader(reader, op.result)
    if groups == 1:
        t.bind(name, 1, labels)
    else:
        t.facts.grouped[name] = reader
        for side in (labels, outputs):
            t.facts.blocks.append(Blocks(list(side.chunk(groups)), f"{groups} groups of {t.where}"))
    return t.put(op.result, by_dimension(op.result.shape, 1, outputs, torch.zeros(len(outputs), dtype=torch.bool)))


def _is_padded(op: Operation) -> bool:
    padding = op.arguments["padding"]
    if isinstance(padding, str):
        return padding != "valid" and any(size > 1 for size in op.arguments["weight"].shape[2:])
    return any(size != 0 for size in padding)


def _depthwise(t: Lookups, op: Operation, shadow: Shadow, labels: Tensor) -> bool:
    weight, groups = op.arguments["weight"], op.arguments["groups"]
    outputs = labels.repeat_interleave(weight.shape[0] // groups)
    named = t.weight_of(weight)
    if named is not None:
        t.bind(named[0], 0, outputs)
        t.facts.depthwise[named[0]] = outputs
    elif weight.stride(0) != 0:  # else all channels have one filter
        return False
    t.bind_bias(op.arguments.get("bias"), outputs)
    if not t.is_plain:
        t.note_size(labels, t.sources.of([groups])[0], f"{op.name} ({t.where})")
    if _is_padded(op):
        shadow = t.only_where(op.arguments["input"], shadow, 0)
    constant = along(tidy(shadow.constant), 1)
    still = torch.zeros(len(labels), dtype=torch.bool) if constant is None else constant
    return t.put(op.result, by_dimension(op.result.shape, 1, outputs, still.repeat_interleave(len(outputs) // groups)))


def transposed_convolution(t: Lookups, op: Operation) -> bool:
    """A transposed convolution: kernels overlap in other ways at the border, and only zeros are constants after it."""
    source, weight, groups = op.arguments["input"], op.arguments["weight"], op.arguments["groups"]
    named = t.weight_of(weight)
    labels = None if op.shadow is None else along(op.shadow.labels, 1)
    if op.shadow is None or labels is None or named is None or (groups > 1 and weight.shape[1] > 1):
        return False
    name, factor = named
    if groups > 1:
        t.bind(name, 0, labels)
        t.bind_bias(op.arguments.get("bias"), labels)
        t.facts.depthwise[name] = labels
        still = along(tidy(t.only_where(source, op.shadow, 0).constant), 1)
        still = torch.zeros(len(labels), dtype=torch.bool) if still is None else still
        return t.put(op.result, by_dimension(op.result.shape, 1, labels, still))
    constant, values = t.constants(source, op.shadow, 1)
    outputs = t.row_labels(name, 1, weight.shape[1])
    bias = t.bind_bias(op.arguments.get("bias"), outputs)
    t.bind(name, 0, labels)
    reader = Reader(t.where, name, bias, labels, constant, values, True, 1, outputs, factor, is_plain=False)
    t.add_reader(reader, op.result)
    return t.put(op.result, by_dimension(op.result.shape, 1, outputs, torch.zeros(len(outputs), dtype=torch.bool)))


def linear(t: Lookups, op: Operation) -> bool:
    """A linear layer: mixes the last dimension."""
    weight = op.arguments["weight"]
    named = t.weight_of(weight)
    labels = None if op.shadow is None else along(op.shadow.labels, -1)
    if op.shadow is None or labels is None or named is None:
        return False
    name, factor = named
    constant, values = t.constants(op.arguments["input"], op.shadow, -1)
    outputs = t.row_labels(name, 0, weight.shape[0])
    bias = t.bind_bias(op.arguments.get("bias"), outputs)
    t.bind(name, 1, labels)
    t.add_reader(Reader(t.where, name, bias, labels, constant, values, False, 1, outputs, factor), op.result)
    live = torch.zeros(len(outputs), dtype=torch.bool)
    return t.put(op.result, by_dimension(op.result.shape, op.result.dim() - 1, outputs, live))


def batch_norm(t: Lookups, op: Operation) -> bool:
    """BatchNorm with running statistics: a channel with γ = 0 is a constant after it."""
    output = op.result[0] if isinstance(op.result, tuple | list) else op.result
    labels = None if op.shadow is None else along(op.shadow.labels, 1)
    if op.shadow is None or labels is None or op.arguments.get("training"):
        return False
    constant = along(tidy(op.shadow.constant), 1)
    constant = torch.zeros(len(labels), dtype=torch.bool) if constant is None else constant
    for key in ("weight", "bias", "running_mean", "running_var"):
        tensor = op.arguments.get(key)
        if tensor is None:
            continue
        stored = t.stored_as(tensor)
        if stored is None:
            return False
        t.bind(stored[0], 0, labels)
        t.facts.count_use(stored[0])
        if key == "weight":
            module = stored[0].rpartition(".")[0]
            constant = constant | (tensor == 0).cpu()
            t.facts.norms.setdefault(module, Norm(module, labels, constant))
    return t.put(output, by_dimension(output.shape, 1, labels, constant))


def concatenation(t: Lookups, op: Operation) -> bool:
    """Tensors one after the other, or one above the other."""
    shadows = [op.known.get(id(one)) or uniform(one.shape, FROZEN) for one in op.args[0]]
    dimension = op.keywords.get("dim", op.args[1] if len(op.args) > 1 else 0)
    pairs = ([one.labels for one in shadows], [one.constant for one in shadows])
    if op.name == "stack":
        pairs = tuple([one.unsqueeze(dimension) for one in parts] for parts in pairs)  # type: ignore[assignment]
    return t.put(op.result, Shadow(*(tidy(joined(parts, dimension)) for parts in pairs)))


def prelu(t: Lookups, op: Operation) -> bool:
    """PReLU, with one slope or one for every channel."""
    slopes = op.args[1]
    if op.shadow is None:
        return False
    if slopes.numel() > 1:
        stored, labels = t.stored_as(slopes), along(op.shadow.labels, 1)
        if stored is None or labels is None:
            return False
        t.bind(stored[0], 0, labels)
    return t.put(op.result, op.shadow)


def _spatial(shadow: Shadow, result: Tensor, dimensions: list[int]) -> Shadow | None:
    """Return the shadow of a result with other sizes along some dimensions; None if something changes along them."""
    labels, constant = shadow.labels, tidy(shadow.constant)
    if set(changes(labels)) & set(dimensions) or set(changes(constant)) & set(dimensions):
        return None
    for d in dimensions:
        labels, constant = labels.narrow(d, 0, 1), constant.narrow(d, 0, 1)
    return Shadow(labels.expand(result.shape), constant.expand(result.shape))


def pooling(t: Lookups, op: Operation) -> bool:
    """Maximum and average pooling: an average that counts a border of zeros leaves only zeros constant."""
    output = op.result[0] if isinstance(op.result, tuple | list) else op.result
    source, shadow = op.arguments.get("self", op.arguments.get("input")), op.shadow
    if shadow is None or source is None:
        return False
    last = int(op.name.partition("pool")[2][0])
    padding = op.arguments.get("padding", 0)
    is_padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
    counted = op.name.startswith("avg") and op.arguments.get("count_include_pad", True) and is_padded
    if counted or op.arguments.get("divisor_override"):
        t.stain(source, shadow, output)
        shadow = t.only_where(source, shadow, 0)
    return t.put(output, _spatial(shadow, output, list(range(output.dim() - last, output.dim()))))


def upsampling(t: Lookups, op: Operation) -> bool:
    """Interpolation of pixels, with weights that add up to 1."""
    if op.shadow is None:
        return False
    return t.put(op.result, _spatial(op.shadow, op.result, list(range(2, op.result.dim()))))


def padding(t: Lookups, op: Operation) -> bool:
    """A border: of a value, it leaves only constants of that value constant."""
    source, shadow = op.arguments.get("self", op.arguments.get("input")), op.shadow
    sizes = op.arguments.get("pad", op.arguments.get("padding"))
    if shadow is None or source is None or sizes is None:
        return False
    padded = [source.dim() - 1 - i // 2 for i in range(0, len(sizes), 2) if any(sizes[i : i + 2])]
    mode = op.arguments.get("mode", "constant") if op.name == "pad" else op.name.partition("_")[0]
    if mode == "constant" and padded:
        value = op.arguments.get("value") or 0
        if value == 0 and all(size >= 0 for size in sizes):
            t.stain(source, shadow, op.result)
        shadow = t.only_where(source, shadow, value)
    return t.put(op.result, _spatial(shadow, op.result, padded))


def reduction(t: Lookups, op: Operation) -> bool:
    """A sum, mean or maximum over dimensions; channels that it puts together live and die together."""
    source, shadow = op.arguments.get("self", op.arguments.get("input")), op.shadow
    given = op.arguments.get("dim")
    if shadow is None or source is None or given is None or not isinstance(op.result, Tensor):
        return False
    dimensions = [d % source.dim() for d in (given if isinstance(given, list | tuple) else [given])]
    mixed = [d for d in changes(shadow.labels) if d in dimensions]
    if mixed and len(mixed) == len(changes(shadow.labels)):
        return False
    if mixed and op.name not in {"sum", "mean", "amax", "amin"}:
        return False
    if op.name == "sum" or (op.name == "mean" and mixed):
        shadow = t.only_where(source, shadow, 0)
    elif mixed or op.name not in {"mean", "amax", "amin"}:
        shadow = Shadow(shadow.labels, torch.tensor(False).expand(source.shape))
    labels, constant, keep = shadow.labels, tidy(shadow.constant), bool(op.arguments.get("keepdim", False))
    for d in sorted(dimensions, reverse=True):
        first = labels.narrow(d, 0, 1)
        if d in mixed:
            t.facts.unite(*aligned(labels, first))
        labels = first if keep else first.squeeze(d)
        constant = constant.narrow(d, 0, 1) if constant.stride(d) == 0 else constant.all(d, keepdim=True)
        constant = constant if keep else constant.squeeze(d)
    return t.put(op.result, Shadow(labels, tidy(constant)))


def pixel_shuffle(t: Lookups, op: Operation) -> bool:
    """Channels that become the pixels of one: they live and die together, and only zeros are a constant then."""
    labels = None if op.shadow is None else along(op.shadow.labels, 1)
    if op.source is None or op.shadow is None or labels is None:
        return False
    groups = labels.view(op.result.shape[1], -1)
    t.facts.unite(*aligned(groups, groups[:, :1]))
    zero = along(tidy(t.only_where(op.source, op.shadow, 0).constant), 1)
    still = torch.zeros(len(groups), dtype=torch.bool) if zero is None else zero.view(len(groups), -1).all(1)
    return t.put(op.result, by_dimension(op.result.shape, 1, groups[:, 0], still))


def softmax(t: Lookups, op: Operation) -> bool:
    """Softmax over a dimension: what it puts together lives and dies together."""
    if op.shadow is None:
        return False
    dimension, labels = op.arguments["dim"] % op.result.dim(), op.shadow.labels
    if dimension in changes(labels):
        if len(changes(labels)) == 1:
            return False
        t.facts.unite(*aligned(labels, labels.narrow(dimension, 0, 1)))
    return t.put(op.result, Shadow(labels, torch.tensor(False).expand(op.result.shape)))


def same(t: Lookups, op: Operation) -> bool:
    """A copy, as it is or with another type of numbers."""
    return t.put(op.result, op.shadow)


def dropout(t: Lookups, op: Operation) -> bool:
    """Dropout; where it is at work, nothing is a constant after it."""
    if op.shadow is None or not op.arguments.get("train", True):
        return t.put(op.result, op.shadow)
    output = op.result[0] if isinstance(op.result, tuple | list) else op.result
    return t.put(output, Shadow(op.shadow.labels, torch.tensor(False).expand(output.shape)))


def elementwise(t: Lookups, op: Operation) -> bool:
    """A function of elements: channels that meet live and die together; of constants alone, it is a constant."""
    if not isinstance(op.result, Tensor):
        return False
    operands = [
        (one, op.known.get(id(one)) or uniform(one.shape, FROZEN))
        for one in tensors_in((op.args, op.keywords))
        if (one.dim() and one.numel() > 1) or op.known.get(id(one)) is not None
    ]
    for labels in t.sources.counted:
        t.facts.freeze(labels, f"{op.name} ({t.where}) computes with their number")
    if not operands or not _met(t, op, operands):
        return False
    shape = op.result.shape
    constant, zero = torch.ones((), dtype=torch.bool), torch.zeros((), dtype=torch.bool)
    for operand, its in operands:
        flags = compressed(its.constant.expand(shape))
        constant = constant & flags
        is_factor = op.name in _PRODUCTS or (op.name in _QUOTIENTS and operand is op.args[0])
        if is_factor and flags.any():
            zero = zero | compressed(t.only_where(operand, its, 0).constant.expand(shape))
    flags = tidy(constant | zero).expand(shape)
    return t.put(op.result, Shadow(_base(op.result, operands).expand(shape), flags))


_PRODUCTS = {"mul", "multiply"}
_QUOTIENTS = {"div", "divide", "true_divide"}


def _base(result: Tensor, operands: list[tuple[Tensor, Shadow]]) -> Tensor:
    """Return the labels of the operand that says most simply which channel every element of the result belongs to."""
    whole = [(one, its.labels.expand(result.shape)) for one, its in operands]
    moving = {d for _, labels in whole for d in changes(labels)}
    full = [labels for one, labels in whole if all(_extent(one, result, d) == result.shape[d] for d in moving)]
    if full and moving:
        return min(full, key=lambda labels: len(changes(labels)))
    return max(
        (labels for _, labels in whole),
        key=lambda labels: (bool((compressed(labels) >= FIRST).any()), len(changes(labels))),
    )


def _extent(operand: Tensor, result: Tensor, dimension: int) -> int:
    own = dimension - (result.dim() - operand.dim())
    return operand.shape[own] if own >= 0 else 1


def _met(t: Lookups, op: Operation, operands: list[tuple[Tensor, Shadow]]) -> bool:
    """Unite the channels of operands; one map for all channels must stay. False if one is for some of them."""
    base = _base(op.result, operands)
    for operand, its in operands:
        labels = its.labels.expand(op.result.shape)
        if labels.data_ptr() == base.data_ptr() and labels.stride() == base.stride():
            continue
        moving = changes(base)
        across = [d for d in moving if _extent(operand, op.result, d) == 1]
        if across and len(across) == len(moving):
            t.facts.freeze(compressed(labels), f"{op.name} for all channels ({t.where})")
        elif across:
            return False
        else:
            t.facts.unite(*aligned(base, labels), f"{op.name} with something that must stay ({t.where})")
    return True


_NAMES: dict[Rule, str] = {
    convolution: "conv1d conv2d conv3d convolution",
    transposed_convolution: "conv_transpose1d conv_transpose2d conv_transpose3d",
    linear: "linear",
    batch_norm: "batch_norm cudnn_batch_norm native_batch_norm _native_batch_norm_legit _batch_norm_impl_index "
    "_native_batch_norm_legit_no_training miopen_batch_norm",
    concatenation: "cat concat concatenate stack",
    prelu: "prelu",
    pooling: "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    padding: "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d",
    upsampling: "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    reduction: "mean sum amax amin max norm linalg_vector_norm logsumexp var std",
    pixel_shuffle: "pixel_shuffle",
    softmax: "softmax _softmax log_softmax _log_softmax",
    product: "matmul bmm",
    attention: "scaled_dot_product_attention",
    same: "alias clone contiguous detach _to_copy to positive lift_fresh type_as float double half",
    dropout: "dropout native_dropout feature_dropout alpha_dropout feature_alpha_dropout",
    moved: "view _unsafe_view reshape _reshape_alias view_as reshape_as flatten unflatten permute transpose t swapaxes "
    "movedim unsqueeze squeeze expand expand_as select slice narrow split split_with_sizes chunk tensor_split unbind "
    "roll flip pixel_unshuffle repeat tile repeat_interleave unfold mT numpy_T diagonal channel_shuffle "
    "native_channel_shuffle",
}
_RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
_WITHOUT_TAG = """
    relu relu6 hardtanh hardswish hardsigmoid silu mish gelu leaky_relu elu celu selu sigmoid tanh softplus threshold
    clamp clamp_min clamp_max rsub multiply divide square log_sigmoid
""".split()  # noqa: SIM905  # a list of words is what it is
_FOR_ANY = (convolution, transposed_convolution, linear, batch_norm, concatenation, product, attention)
"""Rules that look for themselves which of their inputs is known."""


def rule_for(op: Operation) -> Rule | None:
    """Return the rule for an operation; None for one that is not understood."""
    rule: Any = _RULES.get(op.name)
    if rule is None and (torch.Tag.pointwise in op.func.tags or op.name in _WITHOUT_TAG):
        rule = elementwise
    if rule in (*_FOR_ANY, elementwise) or op.shadow is not None:
        return rule  # type: ignore[no-any-return]
    return elementwise if op.source is None and rule is not None else None
