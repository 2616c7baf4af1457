"""Rules for BatchNorm, whose channels with γ = 0 are constants, and for softmax."""

from __future__ import annotations

from ...graph import Operation
from ._context import Propagation, rule
from ._facts import Norm
from ._shadows import NotUnderstood, Shadow, aligned, by_dimension, changes

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
    labels = shadow.channels_along(1)
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
            constant = constant | op.arguments[key].eq(0).cpu()
            t.facts.norms.setdefault(name.rpartition(".")[0], Norm(labels, constant))
    result = op.result[0] if isinstance(op.result, tuple | list) else op.result
    return by_dimension(result.shape, 1, labels, constant)


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(t: Propagation, op: Operation) -> Shadow:
    """Softmax over a dimension: what it puts together lives and dies together."""
    shadow = t.input(op)
    dimension = op.arguments["dim"] % op.result.dim()
    if dimension in changes(shadow.labels):
        if len(changes(shadow.labels)) == 1:
            raise NotUnderstood
        t.facts.unite(*aligned(shadow.labels, shadow.labels.narrow(dimension, 0, 1)))
    return shadow.without_constants()
