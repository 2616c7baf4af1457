"""Rules for products of matrices and Einstein sums: channels are kept by a factor, shared, or summed over."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_letters

import torch
from torch import Tensor

from ..._torch import broadcast_tensors
from ...graph import Operation
from ._context import Propagation, rule
from ._shadows import FROZEN, NONE, NotUnderstood, Shadow, aligned, changes, compressed, tidy, uniform
from ._values import only_where

_BATCH = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(slots=True, eq=False)
class _Term:
    """A factor: its labels, flags for zeros, a letter for each of its dimensions, and whether it is a parameter."""

    labels: Tensor
    zero: Tensor
    letters: str
    is_stored: bool = False

    @property
    def changing(self) -> set[str]:
        """Letters of the dimensions along which channels change."""
        return {self.letters[d] for d in changes(self.labels)}

    def spread(self, part: Tensor, letters: str) -> Tensor:
        """Return a part of the term with its dimensions in the order of letters, 1 for those that it has not."""
        part = part.permute([self.letters.index(letter) for letter in letters if letter in self.letters])
        for d, letter in enumerate(letters):
            if letter not in self.letters:
                part = part.unsqueeze(d)
        return part

    def without(self, summed: set[str]) -> _Term:
        """Return the term summed over dimensions in which its channels do not change."""
        labels, zero, letters = self.labels, self.zero, self.letters
        for d in reversed(range(len(letters))):
            if letters[d] in summed:
                labels = labels.select(d, 0)
                zero = zero.select(d, 0) if zero.stride(d) == 0 else zero.all(d)
                letters = letters[:d] + letters[d + 1 :]
        return _Term(labels, zero, letters)


def _term(t: Propagation, tensor: Tensor, letters: str, sizes: dict[str, int]) -> _Term:
    """Return a factor; dimensions of size 1 that are broadcast are left out."""
    shadow = t.shadow_of(tensor)
    labels, zero = shadow.labels, only_where(tensor, shadow, 0).constant
    for d in reversed(range(tensor.dim())):
        if tensor.shape[d] == 1 and sizes[letters[d]] > 1:
            labels, zero, letters = labels.squeeze(d), zero.squeeze(d), letters[:d] + letters[d + 1 :]
    return _Term(tidy(labels), tidy(zero), letters, is_stored=t.stored.name_of(tensor) is not None)


def _contracted(t: Propagation, op: Operation, factors: list[tuple[Tensor, str]], out: str) -> Shadow:
    """Return the shadow of a sum of products over the letters that are not put out."""
    sizes = _sizes(factors)
    terms = [_term(t, tensor, letters, sizes) for tensor, letters in factors]
    summed = set(sizes) - set(out)
    inner = [term for term in terms if term.changing & summed]
    outer = [term for term in terms if term.changing and not term.changing & summed]
    widest = max((term.changing for term in outer), key=len, default=set())
    narrow = [term for term in outer if term.changing < widest]  # heads, beside the channels of heads
    for term in narrow:
        t.freeze(term.labels, t.reason("mixed", op))
    outer = [term for term in outer if term not in narrow]
    if len({frozenset(term.changing) for term in outer}) > 1:
        raise NotUnderstood  # elements that belong to two channels
    if inner:
        _sum_over_channels(t, op, inner, terms, summed)
    shape = [sizes[letter] for letter in out]
    if not outer:
        alone = {letter for term in inner for letter in term.changing - summed if letter not in _shared(inner)}
        return uniform(shape, FROZEN if alone else NONE)
    base = outer[0]
    for term in terms:
        is_beside = term in outer or term not in (*inner, *narrow)
        if term is not base and is_beside and set(term.letters) & base.changing:
            _unite(t, op, base, term)
    kept = base.without(summed)
    zero = torch.zeros((), dtype=torch.bool)
    for term in terms:
        left = term.without(summed - term.changing) if term not in inner else None
        if left is not None:
            zero = zero | compressed(left.spread(left.zero, out))
    return Shadow(kept.spread(kept.labels, out).expand(shape), tidy(zero).expand(shape))


def _sizes(factors: list[tuple[Tensor, str]]) -> dict[str, int]:
    """Return the size of every letter's dimension."""
    sizes: dict[str, int] = {}
    for tensor, letters in factors:
        if len(set(letters)) < len(letters):
            raise NotUnderstood  # a diagonal
        for letter, size in zip(letters, tensor.shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    return sizes


def _shared(terms: list[_Term]) -> set[str]:
    """Return the letters that all of some terms have."""
    return set.intersection(*(set(term.letters) for term in terms)) if terms else set()


def _unite(t: Propagation, op: Operation, term: _Term, other: _Term) -> None:
    letters = "".join(dict.fromkeys(term.letters + other.letters))
    t.facts.unite(
        *aligned(term.spread(term.labels, letters), other.spread(other.labels, letters)), t.reason("joined", op)
    )


def _sum_over_channels(t: Propagation, op: Operation, inner: list[_Term], terms: list[_Term], summed: set[str]) -> None:
    """Unite channels that are multiplied and summed; those for which no factor is 0 must stay."""
    letters = "".join(dict.fromkeys(letter for term in terms for letter in term.letters))
    zero = torch.zeros((), dtype=torch.bool)
    for term in terms:
        zero = zero | compressed(term.spread(term.zero, letters))
    for term in inner:
        pairs = [(other, term.changing & summed & set(other.letters)) for other in terms if other is not term]
        is_whole = not zero.any() and any(its.is_stored for its in inner)  # a matrix of which all elements stay
        if is_whole or any(shared - other.changing for other, shared in pairs):
            t.freeze(term.labels, t.reason("mixed", op))
            continue
        for other, shared in pairs:
            if shared:
                _unite(t, op, term, other)
        labels, flags = broadcast_tensors(compressed(term.spread(term.labels, letters)), zero)
        t.facts.freeze(labels[~flags], t.reason("mixed", op))


def _of_matrices(a: Tensor, b: Tensor) -> tuple[str, str, str]:
    """Return the letters of the factors and the result of a product of matrices."""
    left = "k" if a.dim() == 1 else _BATCH[24 - (a.dim() - 2) : 24] + "nk"
    right = "k" if b.dim() == 1 else _BATCH[24 - (b.dim() - 2) : 24] + "km"
    batch = max(left[:-2], right[:-2], key=len)
    return left, right, batch + ("n" if a.dim() > 1 else "") + ("m" if b.dim() > 1 else "")


@rule("matmul", "bmm", "mm", "mv", "dot", of_any_input=True)
def product(t: Propagation, op: Operation) -> Shadow:
    """A product of matrices, (..., n, k) times (..., k, m), or of vectors."""
    a, b = op.args[:2]
    if not isinstance(op.result, Tensor):
        raise NotUnderstood
    left, right, out = _of_matrices(a, b)
    return _contracted(t, op, [(a, left), (b, right)], out)


@rule("baddbmm", "addmm", "addmv", of_any_input=True)
def added_product(t: Propagation, op: Operation) -> Shadow:
    """A product of matrices, added to something."""
    more, a, b = op.args[:3]
    left, right, out = _of_matrices(a, b)
    made = _contracted(t, op, [(a, left), (b, right)], out)
    shadow = t.shadow_of(more)
    labels = shadow.labels.expand(op.result.shape)
    if not changes(made.labels):
        t.freeze(labels, t.reason("mixed", op))
    elif any(more.dim() < made.labels.dim() or more.shape[d] == 1 for d in changes(made.labels)):
        t.freeze(labels, t.reason("joined", op))
    else:
        t.facts.unite(*aligned(made.labels, labels), t.reason("joined", op))
    zero = only_where(more, shadow, 0).constant.expand(op.result.shape)
    return Shadow(made.labels, tidy(compressed(made.constant) & compressed(zero)).expand(op.result.shape))


@rule("einsum", of_any_input=True)
def einsum(t: Propagation, op: Operation) -> Shadow:
    """A sum of products by an equation."""
    equation, tensors = str(op.args[0]).replace(" ", ""), op.args[1]
    factors, _, out = equation.partition("->")
    free = [letter for letter in ascii_letters if letter not in equation]
    named = [len(term.replace("...", "")) for term in factors.split(",")]
    unnamed = [tensor.dim() - count for tensor, count in zip(tensors, named, strict=True)]
    batch = "".join(free[: max(unnamed)])
    terms = [
        term.replace("...", batch[len(batch) - count :])
        for term, count in zip(factors.split(","), unnamed, strict=True)
    ]
    if "->" in equation:
        out = out.replace("...", batch)
    else:
        once = {letter for letter in "".join(terms) if "".join(terms).count(letter) == 1}
        out = batch + "".join(sorted(once - set(batch)))
    return _contracted(t, op, list(zip(tensors, terms, strict=True)), out)


@rule("tensordot", "outer", of_any_input=True)
def tensor_product(t: Propagation, op: Operation) -> Shadow:
    """A sum of products over pairs of dimensions."""
    a, b = op.args[:2]
    first, second = (op.arguments["dims_self"], op.arguments["dims_other"]) if op.name == "tensordot" else ([], [])
    left = [_BATCH[d] for d in range(a.dim())]
    right = [ascii_letters[d] for d in range(b.dim())]
    for d, e in zip(first, second, strict=True):
        right[e % b.dim()] = left[d % a.dim()]
    summed = {left[d % a.dim()] for d in first}
    out = "".join(letter for letter in left + right if letter not in summed)
    return _contracted(t, op, [(a, "".join(left)), (b, "".join(right))], out)


@rule("scaled_dot_product_attention", of_any_input=True)
def attention(t: Propagation, op: Operation) -> Shadow:
    """Scaled dot-product attention; it is scaled by the number of channels of queries and keys, which must stay."""
    value = t.known.get(id(op.args[2]))
    if value is None or not isinstance(op.result, Tensor):
        raise NotUnderstood
    others = [tensor for tensor in (*op.args[:2], op.arguments.get("attn_mask")) if isinstance(tensor, Tensor)]
    for tensor in others:  # one tensor may be all of them
        t.freeze(t.shadow_of(tensor).labels, t.reason("counted", op))
    if value.labels.dim() - 2 in changes(value.labels):
        raise NotUnderstood
    zero = tidy(only_where(op.args[2], value, 0).constant)
    zero = zero.narrow(-2, 0, 1) if zero.stride(-2) == 0 else zero.all(-2, keepdim=True)
    return Shadow(value.labels.narrow(-2, 0, 1).expand(op.result.shape), tidy(zero).expand(op.result.shape))
