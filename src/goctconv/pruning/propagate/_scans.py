"""Rules for what runs along one dimension, or sorts it: it must be another one than that of the channels."""

from __future__ import annotations

from ...graph import Operation
from ._context import Propagation, rule
from ._shadows import NotUnderstood, Shadow, aligned, changes, tidy
from ._values import agreeing, only_where

_LINEAR = {"cumsum", "diff", "fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "cumprod", "fft_fft2", "fft_ifft2"}
_LINEAR |= {"fft_rfft2", "fft_irfft2", "fft_rfftn", "fft_irfftn", "fft_fftn", "fft_ifftn", "fft_fftshift"}
_SORTED = {"sort", "topk", "kthvalue", "msort", "cummax", "cummin"}


@rule(*sorted(_LINEAR | _SORTED | {"argsort", "logcumsumexp"}))
def scan(t: Propagation, op: Operation) -> list[Shadow]:
    """Sums and products so far, differences, Fourier transforms, and sorted values with their positions.

    What is linear leaves zeros as they are; what sorts leaves every constant.
    """
    source, shadow = op.args[0], t.input(op)
    named = op.arguments.get("dim", -1)
    if op.name == "msort":
        named = 0
    if named is None or len(op.tensors) > 1:
        raise NotUnderstood
    dimensions = [d % source.dim() for d in (named if isinstance(named, list | tuple) else [named])]
    if set(dimensions) & set(changes(shadow.labels)):
        raise NotUnderstood
    if op.name in _LINEAR:
        shadow = only_where(source, shadow, 0)
    elif op.name in _SORTED:
        shadow = agreeing(source, shadow)
    else:
        shadow = shadow.without_constants()
    made = []
    for index, result in enumerate(op.results):
        labels, constant = shadow.labels, tidy(shadow.constant)
        squeezed = op.name == "kthvalue" and not op.arguments.get("keepdim")
        for d in sorted(dimensions, reverse=True):
            labels = labels.narrow(d, 0, 1)
            constant = constant.narrow(d, 0, 1) if constant.stride(d) == 0 else constant.all(d, keepdim=True)
            if squeezed:
                labels, constant = labels.squeeze(d), constant.squeeze(d)
        found = Shadow(labels.expand(result.shape), tidy(constant).expand(result.shape))
        made.append(found.without_constants() if index else found)
    return made


@rule("glu")
def gated(t: Propagation, op: Operation) -> Shadow:
    """One half times the sigmoid of the other: a channel goes with the one that gates it."""
    source, shadow = op.args[0], t.input(op)
    dimension = op.arguments["dim"] % source.dim()
    size = source.shape[dimension] // 2
    labels, gates = (shadow.labels.narrow(dimension, first, size) for first in (0, size))
    if dimension in changes(shadow.labels):
        t.facts.unite(*aligned(labels, gates))
    zero = only_where(source, shadow, 0).constant.narrow(dimension, 0, size)
    both = shadow.constant.narrow(dimension, 0, size) & shadow.constant.narrow(dimension, size, size)
    return Shadow(tidy(labels), tidy(zero | both))


@rule("rot90")
def rotation(t: Propagation, op: Operation) -> Shadow:
    """A turn in a plane that holds no dimension of channels."""
    shadow, dims = t.input(op), op.arguments["dims"]
    if {d % shadow.labels.dim() for d in dims} & set(changes(shadow.labels)):
        raise NotUnderstood
    moved = [op.func(part, *op.args[1:], **op.keywords) for part in (shadow.labels, shadow.constant)]
    return Shadow(tidy(moved[0]), tidy(moved[1]))


@rule("tril", "triu")
def triangle(t: Propagation, op: Operation) -> Shadow:
    """A part of a matrix, and zeros."""
    shadow = t.input(op)
    if {shadow.labels.dim() - 2, shadow.labels.dim() - 1} & set(changes(shadow.labels)):
        raise NotUnderstood
    return only_where(op.args[0], shadow, 0)
