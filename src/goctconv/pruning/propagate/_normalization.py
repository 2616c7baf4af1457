"""Rules for normalization: BatchNorm, whose channels with γ = 0 are constants, the norms of an image, and softmax."""

from __future__ import annotations

from ...graph import Operation
from ._context import Propagation, rule
from ._facts import Norm
from ._shadows import NotUnderstood, Shadow, aligned, by_dimension, changes, compressed
from ._sizes import Source
from ._values import agreeing

_STORED = ("weight", "bias", "running_mean", "running_var")


@rule(
    *("batch_norm", "cudnn_batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_batch_norm_impl_index"),
    *("_native_batch_norm_legit_no_training", "miopen_batch_norm"),
    of_any_input=True,
    keeps_constants=True,
)
def batch_norm(t: Propagation, op: Operation) -> Shadow:
    """BatchNorm with running statistics."""
    shadow = t.input(op)
    labels = t.channels(shadow, 1)
    tensors = {key: op.arguments.get(key) for key in _STORED}
    names = {key: t.stored.name_of(tensor) for key, tensor in tensors.items() if tensor is not None}
    if op.arguments.get("training") or None in names.values():
        raise NotUnderstood
    constant = shadow.flags_along(1)
    for key, name in names.items():
        if name is None:
            continue
        t.bind(name, 0, labels)
        t.facts.count_use(name)
        if key == "weight":
            constant = constant | (op.arguments[key] == 0).cpu()
            t.facts.norms.setdefault(name.rpartition(".")[0], Norm(labels, constant))
    result = op.result[0] if isinstance(op.result, tuple | list) else op.result
    return by_dimension(result.shape, 1, labels, constant)


@rule(
    "instance_norm",
    of_any_input=True,
    weights=lambda op: [op.arguments[key] for key in _STORED],
)
def instance_norm(t: Propagation, op: Operation) -> Shadow:
    """InstanceNorm, of every channel by itself: a constant becomes the bias."""
    source, shadow = op.args[0], t.input(op)
    labels = t.channels(shadow, 1)
    stored = [op.arguments[key] for key in _STORED if op.arguments[key] is not None]
    names = [t.stored.name_of(tensor) for tensor in stored]
    for name in names:
        if name is None:
            raise NotUnderstood
    for name in names:
        t.bind(name or "", 0, labels)
        t.facts.count_use(name or "")
    if op.path and not names:  # nothing that the number of channels could be measured by
        t.note_size(labels, Source(op.path, "num_features", len(labels), uses=t.sources.uses), t.reason("size_of", op))
    return by_dimension(op.result.shape, 1, labels, agreeing(source, shadow).flags_along(1))


@rule("layer_norm", "rms_norm", weights=lambda op: [op.arguments.get("weight"), op.arguments.get("bias")])
def layer_norm(t: Propagation, op: Operation) -> Shadow:
    """LayerNorm over dimensions that hold no channels."""
    shadow = t.input(op)
    normalized = range(op.args[0].dim() - len(op.arguments["normalized_shape"]), op.args[0].dim())
    if set(normalized) & set(changes(shadow.labels)):
        raise NotUnderstood
    return shadow.without_constants()


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(t: Propagation, op: Operation) -> Shadow:
    """Softmax over a dimension: what it puts together lives and dies together."""
    shadow = t.input(op)
    if bool(compressed(shadow.constant).all()):
        raise NotUnderstood  # of constants: its result is one
    dimension = op.arguments["dim"] % op.result.dim()
    if dimension in changes(shadow.labels):
        if len(changes(shadow.labels)) == 1:
            raise NotUnderstood
        t.facts.unite(*aligned(shadow.labels, shadow.labels.narrow(dimension, 0, 1)))
    return shadow.without_constants()
