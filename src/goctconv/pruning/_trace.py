"""One forward pass of a masked network, seen operation by operation, and what it tells about channels."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ._facts import Blocks, Cut, Facts, Norm, Reader
from ._provenance import SizeSources, sourced_attributes
from ._shadows import FIRST, FROZEN, NONE, Shadow, Shadows, along, by_dimension, changes, compressed, tidy, uniform

_SAME = {
    "alias", "clone", "contiguous", "detach", "_to_copy", "to", "dropout", "feature_dropout", "alpha_dropout",
    "positive", "lift_fresh", "type_as", "float", "double", "half",
}  # fmt: skip
_MOVES = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "view_as", "reshape_as", "flatten", "unflatten", "permute",
    "transpose", "t", "swapaxes", "movedim", "unsqueeze", "squeeze", "expand", "expand_as", "select", "slice", "narrow",
    "split", "split_with_sizes", "chunk", "tensor_split", "unbind", "roll", "flip", "pixel_shuffle", "pixel_unshuffle",
    "repeat", "tile", "repeat_interleave", "unfold", "channel_shuffle", "mT", "numpy_T", "diagonal",
}  # fmt: skip
_CUTS = {"split", "split_with_sizes", "slice", "narrow", "chunk", "tensor_split"}
_ADDITIVE = {"add", "sub", "rsub"}
_PRODUCTS = {"mul", "multiply"}
_WITHOUT_TAG = {
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "mish", "gelu", "leaky_relu", "elu", "celu", "selu",
    "sigmoid", "tanh", "softplus", "threshold", "clamp", "clamp_min", "clamp_max", "rsub", "multiply", "divide", "square",
    "log_sigmoid",
}  # fmt: skip
_UPSAMPLINGS = ("upsample_", "_upsample_")
_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
          "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
          "adaptive_max_pool3d", "_adaptive_avg_pool2d", "max_pool2d_with_indices")  # fmt: skip
_REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "norm", "linalg_vector_norm", "logsumexp", "var", "std"}
_SOFTMAX = {"softmax", "_softmax", "log_softmax", "_log_softmax"}
_LARGEST_FOLLOWED = 1 << 18  # elements of a stored tensor that are followed one by one
_PADS = {"pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
         "replication_pad2d", "replication_pad3d"}  # fmt: skip


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
    """Follows channels through every operation of a forward pass in inference mode."""

    def __init__(self, model: nn.Module, sources: SizeSources) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        self.facts = Facts()
        self.shadows = Shadows()
        self.path: list[str] = []
        self._sources = sources
        self._stored: dict[int, tuple[str, Tensor]] = {}
        self._outputs: dict[int, tuple[Any, Reader]] = {}
        self._plain = {p for p, m in model.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}
        self._derived: dict[int, tuple[Any, str, float]] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.numel():
                self._stored.setdefault(tensor.untyped_storage()._cdata, (name, tensor))

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Note that a module is called, and the channels that come in if it keeps account of them."""
        self.path.append(path)
        if hasattr(module, "resize_channels"):
            given = args[0] if args and isinstance(args[0], tuple | list) else args[:1]
            shadows = [self.shadows.find(one) for one in given if isinstance(one, Tensor)]
            labels = [None if one is None else along(one.labels, 1) for one in shadows]
            empty = torch.zeros(0, dtype=torch.int32)
            self.facts.inputs[path] = [empty if one is None else one for one in labels]

    # What is called for every operation

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and note what it makes of channels."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        is_in_place = name.endswith("_") and not name.endswith("__")
        name = name[:-1] if is_in_place else name
        if self._note_derived(name, args, result := func(*args, **kwargs)):
            return result
        is_weighted = name.startswith(("conv", "linear"))  # their weights are found by name, not by element
        before = [
            (one, self._shadow(one))
            for index, arg in enumerate(args)
            if not (is_weighted and index in {1, 2})
            for one in _tensors(arg)
        ] + [(one, self._shadow(one)) for one in _tensors(kwargs)]
        if not any(shadow is not None for _, shadow in before):
            return result
        self._note_follower(name, args, [one for one, _ in before])
        arguments = {parameter.name: value for parameter, value in zip(func._schema.arguments, args, strict=False)}
        arguments = {**{p.name: p.default_value for p in func._schema.arguments if p.has_default_value()}, **arguments}
        arguments.update(kwargs)
        known = {id(one): shadow for one, shadow in before}
        if not self._understand(name, func, args, kwargs, arguments, known, result):
            self._give_up(name, before, result)
        if is_in_place:
            for shadow in self.shadows.others(result):
                self.facts.freeze(shadow.labels, f"{name} in place on a part ({self._where})")
        return result

    def _note_follower(self, name: str, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        """Note the BatchNorm that alone reads a layer's output."""
        for tensor in tensors:
            reference, reader = self._outputs.get(tensor.untyped_storage()._cdata, (None, None))
            if reference is None or reader is None or reference() is None:
                continue
            is_norm = "batch_norm" in name and tensor is args[0] and len(args) > 3
            stored = self._stored_as(args[3]) if is_norm and isinstance(args[3], Tensor) else None
            is_first = reader.follower == ""
            reader.follower = stored[0].rpartition(".")[0] if stored is not None and is_first else "?"

    def _understand(
        self,
        name: str,
        func: Any,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        arguments: dict[str, Any],
        known: dict[int, Shadow | None],
        result: Any,
    ) -> bool:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        shadow = known.get(id(first)) if first is not None else None
        if name in {"conv1d", "conv2d", "conv3d", "convolution"}:
            return self._convolution(arguments, shadow, result)
        if name in {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}:
            return self._transposed(arguments, shadow, result)
        if name == "linear":
            return self._linear(arguments, shadow, result)
        if "batch_norm" in name:
            return self._batch_norm(arguments, shadow, result)
        if name in {"cat", "concat", "concatenate", "stack"}:
            return self._joined(func, args, keywords, known, result)
        if shadow is None:
            if first is None or self._is_elementwise(name, func):
                return self._elementwise(name, args, keywords, known, result)
            return False
        if name in _SAME:
            return isinstance(result, Tensor) and self._put(result, shadow)
        if name in _MOVES:
            return self._moved(name, func, args, keywords, known, result)
        if name == "prelu":
            return self._prelu(args, known, result)
        if name in _POOLS:
            return self._pooled(name, arguments, shadow, result)
        if name.startswith(_UPSAMPLINGS):
            return self._resampled(shadow, result)
        if name in _PADS:
            return self._padded(name, arguments, shadow, result)
        if name in _REDUCTIONS:
            return self._reduced(name, arguments, shadow, result)
        if name in _SOFTMAX:
            return self._softmax(arguments, shadow, result)
        if self._is_elementwise(name, func):
            return self._elementwise(name, args, keywords, known, result)
        return False

    @property
    def _where(self) -> str:
        return self.path[-1] if self.path and self.path[-1] else "the model"

    def _is_elementwise(self, name: str, func: Any) -> bool:
        return torch.Tag.pointwise in func.tags or name in _WITHOUT_TAG

    def _give_up(self, name: str, before: list[tuple[Tensor, Shadow | None]], result: Any) -> None:
        for _, shadow in before:
            if shadow is not None:
                self.facts.freeze(compressed(shadow.labels), f"{name} ({self._where}) is not understood")
        for one in _tensors(result):
            self.shadows.set(one, uniform(one.shape, FROZEN))

    # Rules: each returns whether it understood the operation

    def _convolution(self, arguments: dict[str, Any], shadow: Shadow | None, result: Tensor) -> bool:
        source, weight, groups = arguments["input"], arguments["weight"], arguments["groups"]
        stored = self._weight_of(weight)
        labels = None if shadow is None else along(shadow.labels, 1)
        if shadow is None or labels is None or stored is None or arguments.get("transposed"):
            return False
        name, factor = stored
        constant, values = self._constants(source, shadow, 1)
        padding = arguments["padding"]
        padded = padding != "valid" if isinstance(padding, str) else any(size != 0 for size in padding)
        if isinstance(padding, str) and padded:
            padded = any(size > 1 for size in weight.shape[2:])
        if groups > 1 and groups == source.shape[1]:
            outputs = labels.repeat_interleave(weight.shape[0] // groups)
            self._bind(name, 0, outputs)
            self._bind_bias(arguments.get("bias"), outputs)
            self.facts.depthwise[name] = outputs
            still = constant & (values == 0) if padded else constant
            still = still.repeat_interleave(weight.shape[0] // groups)
            return self._put(result, by_dimension(result.shape, 1, outputs, still))
        outputs = self._row_labels(name, 0, weight.shape[0])
        bias = self._bind_bias(arguments.get("bias"), outputs)
        where = self._where
        reader = Reader(where, name, bias, labels, constant, values, padded, groups, outputs, factor)
        self._add_reader(reader, result)
        if groups == 1:
            self._bind(name, 1, labels)
        else:
            self.facts.grouped[name] = reader
            for side in (labels, outputs):
                self.facts.blocks.append(Blocks(list(side.chunk(groups)), f"{groups} groups of {where}"))
        return self._put(result, by_dimension(result.shape, 1, outputs, torch.zeros(len(outputs), dtype=torch.bool)))

    def _add_reader(self, reader: Reader, result: Tensor) -> None:
        owner = reader.weight.rpartition(".")[0]
        is_own = self.path and self.path[-1] == owner and owner in self._plain
        reader.is_plain = reader.is_plain and reader.bias != "?" and bool(reader.bias or is_own)
        self._outputs[result.untyped_storage()._cdata] = (weakref.ref(result), reader)
        self.facts.uses[reader.weight] = self.facts.uses.get(reader.weight, 0) + 1
        self.facts.readers.append(reader)

    def _transposed(self, arguments: dict[str, Any], shadow: Shadow | None, result: Tensor) -> bool:
        source, weight, groups = arguments["input"], arguments["weight"], arguments["groups"]
        stored = self._weight_of(weight)
        labels = None if shadow is None else along(shadow.labels, 1)
        if shadow is None or labels is None or stored is None or (groups > 1 and weight.shape[1] > 1):
            return False
        name, factor = stored
        constant, values = self._constants(source, shadow, 1)
        if groups > 1:
            self._bind(name, 0, labels)
            self._bind_bias(arguments.get("bias"), labels)
            self.facts.depthwise[name] = labels
            return self._put(result, by_dimension(result.shape, 1, labels, constant & (values == 0)))
        outputs = self._row_labels(name, 1, weight.shape[1])
        bias = self._bind_bias(arguments.get("bias"), outputs)
        self._bind(name, 0, labels)
        self._add_reader(
            Reader(self._where, name, bias, labels, constant, values, True, 1, outputs, factor, is_plain=False),
            result,
        )
        return self._put(result, by_dimension(result.shape, 1, outputs, torch.zeros(len(outputs), dtype=torch.bool)))

    def _linear(self, arguments: dict[str, Any], shadow: Shadow | None, result: Tensor) -> bool:
        source, weight = arguments["input"], arguments["weight"]
        stored = self._weight_of(weight)
        labels = None if shadow is None else along(shadow.labels, -1)
        if shadow is None or labels is None or stored is None:
            return False
        name, factor = stored
        constant, values = self._constants(source, shadow, -1)
        outputs = self._row_labels(name, 0, weight.shape[0])
        bias = self._bind_bias(arguments.get("bias"), outputs)
        self._bind(name, 1, labels)
        self._add_reader(Reader(self._where, name, bias, labels, constant, values, False, 1, outputs, factor), result)
        last = result.dim() - 1
        return self._put(result, by_dimension(result.shape, last, outputs, torch.zeros(len(outputs), dtype=torch.bool)))

    def _batch_norm(self, arguments: dict[str, Any], shadow: Shadow | None, result: Any) -> bool:
        output = result[0] if isinstance(result, tuple | list) else result
        labels = None if shadow is None else along(shadow.labels, 1)
        if shadow is None or labels is None or arguments.get("training"):
            return False
        constant = along(tidy(shadow.constant), 1)
        constant = torch.zeros(len(labels), dtype=torch.bool) if constant is None else constant
        for key in ("weight", "bias", "running_mean", "running_var"):
            tensor = arguments.get(key)
            if tensor is None:
                continue
            stored = self._stored_as(tensor)
            if stored is None:
                return False
            self._bind(stored[0], 0, labels)
            if key == "weight":
                module = stored[0].rpartition(".")[0]
                self.facts.norms.setdefault(module, Norm(module, labels))
                constant = constant | (tensor == 0).cpu()
        return self._put(output, by_dimension(output.shape, 1, labels, constant))

    def _joined(
        self,
        func: Any,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        known: dict[int, Shadow | None],
        result: Tensor,
    ) -> bool:
        shadows = [known.get(id(one)) or uniform(one.shape, FROZEN) for one in args[0]]
        labels = tidy(func([one.labels for one in shadows], *args[1:], **keywords))
        constant = tidy(func([one.constant for one in shadows], *args[1:], **keywords))
        return self._put(result, Shadow(labels, constant))

    def _moved(
        self,
        name: str,
        func: Any,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        known: dict[int, Shadow | None],
        result: Any,
    ) -> bool:
        shadow = known[id(args[0])]
        if shadow is None:
            return False
        is_view = name in {"view", "_unsafe_view", "_reshape_alias", "reshape", "view_as", "reshape_as"}
        results = list(_tensors(result))
        if is_view:
            moved = [[part.reshape(results[0].shape)] for part in shadow]
        else:
            moved = [list(_tensors(func(part, *args[1:], **keywords))) for part in shadow]
        if any(len(parts) != len(results) for parts in moved):
            return False
        shadows = [Shadow(tidy(labels), tidy(constant)) for labels, constant in zip(*moved, strict=True)]
        if not self._note_sizes(name, shadow, shadows, args, keywords):
            return False
        return all(self._put(one, its) for one, its in zip(results, shadows, strict=True))

    def _note_sizes(
        self, name: str, before: Shadow, after: list[Shadow], args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> bool:
        """Note which channels must stay equally many because of how a dimension is cut; False if that is not known."""
        changing = changes(before.labels)
        if name in _CUTS or name in {"select", "unbind"}:
            position = 1 if name in {"unbind", "select", "slice", "narrow"} else 2
            dimension = keywords.get("dim", args[position] if len(args) > position else 0) % before.labels.dim()
            if dimension not in changing:
                return True
            return self._note_cut(name, dimension, before, after, args)
        labels = after[0].labels
        inner = changes(labels)
        if len(inner) > len(changing) and len(inner) > 1:
            rows = compressed(labels).movedim(inner[-1], -1).reshape(-1, labels.shape[inner[-1]])
            self.facts.blocks.append(Blocks(list(rows), f"{name} into {tuple(labels.shape)} ({self._where})"))
        return True

    def _note_cut(self, name: str, dimension: int, before: Shadow, after: list[Shadow], args: tuple[Any, ...]) -> bool:
        reason = f"{name} ({self._where})"
        if name in {"select", "unbind"}:
            return len(changes(before.labels)) > 1
        pieces = [along(one.labels, dimension) for one in after]
        if any(piece is None for piece in pieces):
            return False
        known = [piece for piece in pieces if piece is not None]
        if name in {"chunk", "tensor_split"}:
            if len({len(piece) for piece in known}) > 1:
                return False
            self.facts.blocks.append(Blocks(known, reason))
            return True
        if name == "split":
            if len({len(piece) for piece in known}) > 1:
                return False
            self.facts.blocks.append(Blocks(known, reason))
            return self._cut(known[:1], reason)
        if name == "split_with_sizes":
            return self._cut(known, reason)
        if name == "slice":
            whole = before.shape[dimension]
            start, end = (list(args[2:4]) + [None, None])[:2]
            start, end = (start or 0) % (whole + 1), whole if end is None else min(end, whole)
            if (start, end) == (0, whole):
                return True
            labels = along(before.labels, dimension)
            if labels is None or (len(args) > 4 and args[4] != 1) or (start and end != whole):
                return False
            return self._cut([labels[: start or end]], reason)
        return False

    def _cut(self, pieces: list[Tensor], reason: str) -> bool:
        """Note pieces whose lengths the code gives as numbers."""
        sources = self._sources.of([len(piece) for piece in pieces])
        if sources is None:
            return False
        self.facts.cuts += [Cut(piece, source, reason) for piece, source in zip(pieces, sources, strict=True)]
        return True

    def _prelu(self, args: tuple[Any, ...], known: dict[int, Shadow | None], result: Tensor) -> bool:
        shadow, slopes = known[id(args[0])], args[1]
        if shadow is None:
            return False
        if slopes.numel() > 1:
            stored, labels = self._stored_as(slopes), along(shadow.labels, 1)
            if stored is None or labels is None:
                return False
            self._bind(stored[0], 0, labels)
        return self._put(result, shadow)

    def _spatial(self, shadow: Shadow, result: Tensor, dimensions: int) -> tuple[Tensor, Tensor] | None:
        """Return labels and flags for a result whose last dimensions have other sizes; None if labels change there."""
        labels, constant = shadow.labels, tidy(shadow.constant)
        first = labels.dim() - dimensions
        if any(d >= first for d in changes(labels)) or any(d >= first for d in changes(constant)):
            return None
        for d in range(first, labels.dim()):
            labels, constant = labels.narrow(d, 0, 1), constant.narrow(d, 0, 1)
        return labels.expand(result.shape), constant.expand(result.shape)

    def _pooled(self, name: str, arguments: dict[str, Any], shadow: Shadow | None, result: Any) -> bool:
        output = result[0] if isinstance(result, tuple | list) else result
        source = arguments.get("self", arguments.get("input"))
        if shadow is None or source is None:
            return False
        dimensions = int(name.partition("pool")[2][0])
        padding = arguments.get("padding", 0)
        is_padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
        counted = name.startswith("avg") and arguments.get("count_include_pad", True) and is_padded
        if counted or arguments.get("divisor_override"):
            shadow = self._zeros_only(source, shadow)
        moved = self._spatial(shadow, output, dimensions)
        return moved is not None and self._put(output, Shadow(*moved))

    def _resampled(self, shadow: Shadow | None, result: Tensor) -> bool:
        moved = None if shadow is None else self._spatial(shadow, result, result.dim() - 2)
        return moved is not None and self._put(result, Shadow(*moved))

    def _padded(self, name: str, arguments: dict[str, Any], shadow: Shadow | None, result: Tensor) -> bool:
        source = arguments.get("self", arguments.get("input"))
        sizes = arguments.get("pad", arguments.get("padding"))
        if shadow is None or source is None or sizes is None:
            return False
        mode = arguments.get("mode", "constant") if name == "pad" else name.partition("_")[0]
        if mode == "constant":
            value = arguments.get("value") or 0
            shadow = Shadow(shadow.labels, shadow.constant & (source == value).cpu())
        moved = self._spatial(Shadow(shadow.labels, tidy(shadow.constant)), result, len(sizes) // 2)
        return moved is not None and self._put(result, Shadow(*moved))

    def _zeros_only(self, source: Tensor, shadow: Shadow) -> Shadow:
        return Shadow(shadow.labels, tidy(shadow.constant & (source == 0).cpu()))

    def _reduced(self, name: str, arguments: dict[str, Any], shadow: Shadow | None, result: Any) -> bool:
        source = arguments.get("self", arguments.get("input"))
        given = arguments.get("dim")
        if shadow is None or source is None or given is None or not isinstance(result, Tensor):
            return False
        dimensions = [d % source.dim() for d in (given if isinstance(given, list | tuple) else [given])]
        keep = bool(arguments.get("keepdim", False))
        mixed = [d for d in changes(shadow.labels) if d in dimensions]
        if mixed and not [d for d in changes(shadow.labels) if d not in dimensions]:
            return False
        if mixed and name not in {"sum", "mean", "amax", "amin"}:
            return False
        constant = shadow.constant
        if not mixed and name not in {"mean", "amax", "amin"}:
            constant = constant & (source == 0).cpu() if name == "sum" else torch.zeros_like(constant)
        labels = shadow.labels
        for d in sorted(dimensions, reverse=True):
            first = labels.narrow(d, 0, 1)
            if d in mixed:
                self.facts.unite(*_aligned(labels, first))
            labels, constant = (first if keep else first.squeeze(d)), constant.all(d, keepdim=keep)
        if name == "mean" and mixed:
            constant = torch.zeros_like(constant)
        return self._put(result, Shadow(labels, tidy(constant)))

    def _softmax(self, arguments: dict[str, Any], shadow: Shadow | None, result: Tensor) -> bool:
        if shadow is None:
            return False
        dimension = arguments["dim"] % result.dim()
        labels = shadow.labels
        if dimension in changes(labels):
            if len(changes(labels)) == 1:
                return False
            self.facts.unite(*_aligned(labels, labels.narrow(dimension, 0, 1)))
        return self._put(result, Shadow(labels, torch.zeros_like(shadow.constant)))

    def _elementwise(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any], known: dict[int, Shadow | None], result: Any
    ) -> bool:
        if not isinstance(result, Tensor):
            return False
        operands = [one for one in _tensors((args, keywords)) if one.dim() and one.numel() > 1]
        shadows = [(one, known.get(id(one)) or uniform(one.shape, FROZEN)) for one in operands]
        if not shadows:
            return False
        whole = [(one, Shadow(*(part.expand(result.shape) for part in its))) for one, its in shadows]
        base = max(
            whole, key=lambda pair: (bool((compressed(pair[1].labels) >= FIRST).any()), len(changes(pair[1].labels)))
        )
        moving = changes(base[1].labels)
        for operand, its in whole:
            if operand is base[0]:
                continue
            lead = result.dim() - operand.dim()
            across = [d for d in moving if d < lead or operand.shape[d - lead] == 1]
            if across and any(result.shape[d] > 1 for d in across):
                if len(across) == len(moving):  # one map for all channels
                    self.facts.freeze(compressed(its.labels), f"{name} for all channels ({self._where})")
                    continue
                return False
            self.facts.unite(*_aligned(base[1].labels, its.labels))
        constant = torch.ones((), dtype=torch.bool).expand(result.shape)
        zero = torch.zeros((), dtype=torch.bool).expand(result.shape)
        for operand, its in whole:
            constant = constant & its.constant
            if name in _PRODUCTS and its.constant.any():
                zero = zero | (its.constant & (operand == 0).cpu().expand(result.shape))
        self._note_factor(name, args, result)
        return self._put(result, Shadow(base[1].labels, tidy(constant | zero)))

    # Weights, biases, constants

    def _note_factor(self, name: str, args: tuple[Any, ...], result: Tensor) -> None:
        del name, args, result

    def _weight_of(self, weight: Tensor) -> tuple[str, float] | None:
        """Return the name of the parameter that a weight is, and the number that it was multiplied by."""
        stored = self._stored_as(weight)
        if stored is not None:
            return stored[0], 1.0
        derived = self._derived.get(weight.untyped_storage()._cdata)
        if derived is None or derived[0]() is not weight:
            return None
        return derived[1], derived[2]

    def _note_derived(self, name: str, args: tuple[Any, ...], result: Any) -> bool:
        """Note a weight that is a parameter times a number; those are not followed element by element."""
        if name not in {"mul", "div", "multiply", "divide"} or len(args) < 2 or not isinstance(args[1], int | float):
            return False
        stored = self._stored_as(args[0]) if isinstance(args[0], Tensor) and args[0].dim() > 1 else None
        if stored is None:
            return False
        factor = float(args[1]) if name.startswith("mul") else 1 / args[1]
        self._derived[result.untyped_storage()._cdata] = (_TensorReference(result), stored[0], factor)
        return True

    def _bind(self, name: str, dimension: int, labels: Tensor) -> None:
        self.facts.bind(name, dimension, torch.where(labels == NONE, FROZEN, labels).to(torch.int32))

    def _bind_bias(self, bias: Tensor | None, labels: Tensor) -> str:
        if bias is None:
            return ""
        stored = self._stored_as(bias)
        if stored is None:
            self.facts.freeze(labels, f"the bias of {self._where} is computed")
            return "?"
        self._bind(stored[0], 0, labels)
        return stored[0]

    def _constants(self, source: Tensor, shadow: Shadow, dimension: int) -> tuple[Tensor, Tensor]:
        """Return which channels are constants, and their values, which must be the same everywhere."""
        count = source.shape[dimension]
        constant = along(tidy(shadow.constant), dimension)
        values = torch.zeros(count, dtype=torch.float64)
        if constant is None or not constant.any():
            return torch.zeros(count, dtype=torch.bool), values
        chosen = constant.nonzero()[:, 0]
        rows = source.movedim(dimension, 0)[chosen.to(source.device)].reshape(len(chosen), -1).double().cpu()
        middle = rows[:, 0]
        spread = (rows - middle[:, None]).abs().amax(1)
        allowed = 1e-5 if source.dtype != torch.float64 else 1e-11
        agree = spread <= allowed * middle.abs()
        constant = constant.clone()
        constant[chosen] = agree
        values[chosen] = torch.where(agree, middle, torch.zeros_like(middle))
        return constant, values

    # Shadows of tensors

    def _shadow(self, tensor: Tensor) -> Shadow | None:
        """Return a tensor's shadow; None for one that no channel is known of."""
        found = self.shadows.find(tensor)
        if found is not None:
            return found
        stored = self._stored_as(tensor)
        if stored is not None and tensor.dim() > 1 and tensor.numel() > _LARGEST_FOLLOWED:
            return uniform(tensor.shape, FROZEN, constant=True)
        if stored is not None and tensor.dim() and tensor.numel() > 1:
            return Shadow(self._element_labels(*stored), torch.tensor(True).expand(tensor.shape))
        return None

    def _stored_as(self, tensor: Tensor) -> tuple[str, Tensor] | None:
        """Return name and value of the parameter or buffer that a tensor is, whole and as it is stored."""
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        stored = self._stored.get(tensor.untyped_storage()._cdata)
        if stored is None or stored[1].shape != tensor.shape or stored[1].stride() != tensor.stride():
            return None
        return stored if stored[1].storage_offset() == tensor.storage_offset() else None

    def _element_labels(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.dim() == 1:
            return self._row_labels(name, 0, len(tensor))
        if name not in self.facts.elements:
            labels = self.facts.fresh(tensor.numel()).view(tensor.shape)
            self.facts.elements[name] = labels
        return self.facts.elements[name]

    def _row_labels(self, name: str, dimension: int, count: int) -> Tensor:
        if (name, dimension) not in self.facts.rows:
            self.facts.rows[name, dimension] = self.facts.fresh(count)
        return self.facts.rows[name, dimension]

    def _put(self, result: Tensor, shadow: Shadow | None) -> bool:
        if shadow is None or shadow.shape != result.shape:
            return False
        self.shadows.set(result, shadow)
        return True


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(arguments):
        if isinstance(leaf, Tensor):
            yield leaf


def _aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs of labels of two tensors of equal shapes, each pair but once where strides tell."""
    a, b = torch.broadcast_tensors(compressed(a), compressed(b))
    return a.reshape(-1), b.reshape(-1)


def _TensorReference(tensor: Tensor) -> Callable[[], Tensor | None]:
    return weakref.ref(tensor)


def trace(model: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Facts:
    """Run a model in eval mode once, and return what that tells about its channels."""
    sources = SizeSources()
    tracer = Tracer(model, sources)
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, a, path=path: tracer.enter(path, m, a)))
        handles.append(module.register_forward_hook(lambda *_: _pop(tracer.path), always_call=True))
    try:
        with torch.inference_mode(), sourced_attributes(model), sources, tracer:
            for one in _tensors((args, keywords)):
                if one.is_floating_point():
                    tracer.shadows.set(one, uniform(one.shape, FROZEN))
            output = model(*args, **keywords)
            for one in _tensors(_leaves(output)):
                shadow = tracer.shadows.find(one)
                if shadow is not None:
                    tracer.facts.freeze(compressed(shadow.labels), "it is put out by the model")
    finally:
        for handle in handles:
            handle.remove()
    return tracer.facts


def _pop(path: list[str]) -> None:
    if path:
        path.pop()


def _leaves(output: Any) -> Any:
    """Return an output as plain containers; outputs that are objects give their attributes."""
    if hasattr(output, "__dict__") and not isinstance(output, Tensor | dict | list | tuple):
        return list(vars(output).values())
    return output
