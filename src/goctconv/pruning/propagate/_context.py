"""Propagation of channels through a forward pass: its state, and the registry of rules for operators."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..._torch import ConvNd, InstanceNorm, untraced, without_function_modes
from ...graph import Observer, Operation, StorageMap, Tracer, is_batch_norm, is_pointwise, is_random
from .._reasons import Reason
from ._facts import Blocks, Consumer, Cut, Facts, Follow, Loss
from ._means import Means
from ._shadows import (
    FROZEN,
    NO_LABELS,
    NONE,
    YES,
    NotUnderstood,
    Shadow,
    Shadows,
    aligned,
    changes,
    compressed,
    labels_where,
    rows_along,
    uniform,
)
from ._sizes import SizeSources, Source
from ._values import Stored, Taints

Rule: TypeAlias = "Callable[[Propagation, Operation], Shadow | list[Shadow]]"
"""Returns the shadows of what an operation returned, or raises `NotUnderstood`."""
STRICT: ContextVar[bool] = ContextVar("strict", default=False)
"""Whether an exception in a rule, which is a bug of the rule, is raised; else its channels stay and a note says so."""

_AGREEMENT = 1e-6  # of constants in two passes
_LARGEST_FOLLOWED = 1 << 18  # elements of a stored tensor that are followed one by one
_RULES: dict[str, Rule] = {}
_OF_ANY_INPUT: set[str] = set()
_WEIGHTS: dict[str, Callable[[Operation], list[Any]]] = {}
_KEEPING: set[str] = set()
_POINTWISE = "pointwise"
_CHOOSING = frozenset({"index", "index_select", "slice", "narrow", "split", "split_with_sizes", "masked_select"})
_LIFTED = frozenset({"lift_fresh", "lift_fresh_copy"})  # what code writes numbers into, as torch.tensor does


def rule(
    *names: str,
    of_any_input: bool = False,
    keeps_constants: bool = False,
    weights: Callable[[Operation], list[Any]] | None = None,
) -> Callable[[Rule], Rule]:
    """Register a rule for operators.

    Args:
        names: Of the operators, without overload and without the underscore of in-place forms; ``"pointwise"`` stands
            for all pointwise ones without a rule of their own.
        of_any_input: Whether the rule can do with any input that is known, and not with the first one alone.
        keeps_constants: Whether a channel that is a constant before the operation always is one after it.
        weights: Returns the stored tensors among the arguments that the rule finds by name.
    """

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, function))
        if of_any_input:
            _OF_ANY_INPUT.update(names)
        if keeps_constants:
            _KEEPING.update(names)
        if weights is not None:
            _WEIGHTS.update(dict.fromkeys(names, weights))
        return function

    return register


def operators() -> dict[str, list[str]]:
    """Return the operators that channels are followed through, by what their rule says of them."""
    found: dict[str, list[str]] = {}
    for name, function in _RULES.items():
        if name != _POINTWISE and not name.startswith("_"):
            found.setdefault((function.__doc__ or "").strip().partition("\n")[0], []).append(name)
    return {description: sorted(names) for description, names in sorted(found.items())}


class BrokenRule(BaseException):  # no Exception: nothing may take it for what a network raises
    """A rule raised something else than `NotUnderstood`, which is a bug of the rule."""


@functools.cache
def _weights_of(name: str) -> tuple[int, ...]:
    """Return the positions of stored tensors that the rule for an operator finds by name."""
    if is_batch_norm(name):
        return 1, 2, 3, 4
    return (1, 2) if name.startswith(("conv", "linear")) else ()


class Propagation(Observer):
    """Follows channels through the operations of a forward pass.

    Args:
        modules: Of the model, by path.
        facts: What is known already.

    Attributes:
        facts: What was found.
        shadows: Of the tensors that are alive.
        known: Shadows of the inputs of the running operation, as they were before it, by id.
        sources: Of the sizes in the running call.
        stored: The model's parameters and buffers.
        taints: Constants that a border made dependent on the place.
        means: Of channels, whose number they are divided by.
        called: Paths of the modules that ran.
        tracer: Follows the pass.
    """

    def __init__(self, modules: dict[str, nn.Module], facts: Facts) -> None:
        self.facts = facts
        self.shadows = Shadows()
        self.known: dict[int, Shadow | None] = {}
        self.tracer = Tracer()
        self.sources = SizeSources(self.shadows.find)
        self.stored = Stored(modules)
        self.taints = Taints()
        self.means = Means()
        self.called: set[str] = set()
        self._accounted = set(facts.inputs)
        self._followed: set[str] = set()
        self._outputs: StorageMap[tuple[Callable[[], Tensor | None], Consumer]] = StorageMap()
        self._again: list[tuple[Consumer, Consumer]] = []
        self._inputs: list[Tensor] = []
        self._bound: Tensor | None = None
        measured = nn.RNNBase | nn.RNNCellBase | InstanceNorm
        self._measured = {path for path, module in modules.items() if isinstance(module, measured)}
        self._fixed = {path for path, module in modules.items() if isinstance(module, nn.MultiheadAttention)}
        self._plain = {path for path, module in modules.items() if isinstance(module, ConvNd | nn.Linear)}

    # Modules

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Note that a module is called, and the channels that come in if it keeps account of them."""
        self.called.add(path)
        if hasattr(type(module), "resize_channels") and path not in self._accounted:
            given = args[0] if args and isinstance(args[0], tuple | list) else args[:1]
            with without_function_modes(), untraced():
                shadows = [self.shadows.find(tensor) for tensor in given if isinstance(tensor, Tensor)]
                labels = [None if shadow is None else shadow.row_along(1) for shadow in shadows]
            self.facts.inputs.setdefault(path, []).append([NO_LABELS if its is None else its for its in labels])
        self._note_accounting()

    def leave(self, *_: Any) -> None:
        """Note that a module has returned."""
        self._note_accounting()

    def _note_accounting(self) -> None:
        """Mute comparisons of sizes as constraints in modules whose numbers of channels are set with their tensors."""
        self.sources.uses.is_muted = bool(self.tracer.paths) and (
            self.tracer.path in self.facts.inputs or self.tracer.path in self._measured
        )

    # The running operation

    def before(self, operation: Operation) -> None:
        """Remember the shadows of the inputs, which an operation in place is about to change."""
        name, args = operation.name, operation.args
        self._inputs = operation.tensors
        by_name = {id(args[index]) for index in _weights_of(name) if index < len(args)}
        if name in _WEIGHTS:
            by_name = {id(tensor) for tensor in _WEIGHTS[name](operation)}
        given = [tensor for tensor in self._inputs if id(tensor) not in by_name] if by_name else self._inputs
        if name in {"mul", "div"} and len(args) > 1 and isinstance(args[1], int | float):
            given = [tensor for tensor in given if tensor.dim() < 2 or self.stored.name_of(tensor) is None]
        self.known = {id(tensor): self._shadow(tensor) for tensor in given}

    def after(self, operation: Operation) -> None:
        """Give the results their shadows, by the operator's rule."""
        result = operation.result
        if self.stored.note_alias(operation.name, operation.args, result):
            return
        if not any(shadow is not None for shadow in self.known.values()):
            self._note_new(operation)
            return
        self._note_followers(operation)
        has_means = any(self.means.find(tensor) is not None for tensor in self._inputs)
        if operation.is_in_place:
            self.sources.forget()
            for tensor in operation.results:
                self.taints.forget(tensor)
                self.stored.forget(tensor)
        self._note_empty(operation)
        is_understood = self._apply(operation)
        if not is_understood:
            self._give_up(operation)
        if has_means:
            self._follow_means(operation)
        if operation.is_in_place and isinstance(result, Tensor):
            for shadow in self.shadows.disturb_others(result):
                if not is_understood:
                    self.freeze(shadow.labels, self.reason("not_understood", operation))

    def _note_empty(self, operation: Operation) -> None:
        """Freeze channels of which nothing is taken, as by a mask that chooses no image: what reads it is not seen.

        A part without channels is another thing.
        """
        if operation.name not in _CHOOSING or all(tensor.numel() for tensor in operation.results):
            return
        for tensor, shadow in zip(self._inputs, map(self.known.get, map(id, self._inputs)), strict=True):
            if shadow is not None and tensor.numel() and shadow.changing:
                sizes = {size for own in operation.results if not own.numel() for size in own.shape}
                if all(tensor.shape[d] in sizes for d in shadow.changing):
                    self.freeze(shadow.labels, self.reason("empty", operation))

    def _follow_means(self, operation: Operation) -> None:
        """Follow means over channels; those that are not read by a layer alone must keep their channels."""
        results = operation.results
        reference, consumer = (self._outputs.get(results[0]) if results else None) or (lambda: None, None)
        is_its = bool(results) and reference() is results[0]
        mean = self.means.follow(operation, consumer if is_its else None)
        if mean is not None:
            self.freeze(mean.labels, self.reason("counted", operation))

    def _note_new(self, operation: Operation) -> None:
        """Note tensors that are made of nothing that comes in: they are constants, if they are not random.

        What is neither stored in the model nor made in this pass may come in by a way that is not seen.
        """
        if operation.name not in _LIFTED and not all(self.stored.name_of(tensor) for tensor in self._inputs):
            return
        labels = self.sources.counted
        if labels and operation.name in _RULES and not self._inputs and self._apply(operation):
            return
        for counted in labels:
            self.freeze(counted, self.reason("counted", operation))
        for tensor in operation.results:
            self.shadows.set(tensor, uniform(tensor.shape, FROZEN, constant=not is_random(operation.func)))

    def _apply(self, operation: Operation) -> bool:
        """Apply the operator's rule; return whether it understood the operation."""
        rule = self._rule_of(operation)
        if rule is None:
            return False
        try:
            made = rule(self, operation)
        except NotUnderstood:
            return False
        except Exception as error:
            if STRICT.get():
                raise BrokenRule(f"{operation.name} in {operation.path}: {type(error).__name__}: {error}") from error
            failure = f"the rule for {operation.name} failed ({type(error).__name__}: {error}), so channels stay"
            self.facts.failures.append(failure)
            return False
        shadows = made if isinstance(made, list) else [made]
        results = operation.results
        if len(shadows) > len(results) or any(
            tuple(shadow.shape) != tuple(result.shape) for shadow, result in zip(shadows, results, strict=False)
        ):
            return False
        for shadow, result in zip(shadows, results, strict=False):
            self.shadows.set(result, shadow)
        if operation.name not in _KEEPING and self._outputs.get(results[0]) is None:  # a consumer's are new channels
            self._note_losses(operation, shadows)
        return True

    def _rule_of(self, operation: Operation) -> Rule | None:
        name = operation.name
        if operation.path in self._fixed:  # its code checks that all its widths are one number, which it keeps
            return None
        if name not in _RULES and is_pointwise(operation.func):
            name = _POINTWISE
        is_known = (
            name in _OF_ANY_INPUT
            or not self._inputs
            or (operation.args and self.known.get(id(operation.args[0])) is not None)
        )
        return _RULES.get(name) if is_known else None

    def _give_up(self, operation: Operation) -> None:
        """Freeze what enters an operation that is not understood, and what leaves it.

        What comes of constants alone is a constant.
        """
        for tensor in self._inputs:
            if id(tensor) not in self.known and tensor.dim() == 1:
                self.known[id(tensor)] = self._shadow(tensor)
        for shadow in self.known.values():
            if shadow is not None:
                self.freeze(shadow.labels, self.reason("not_understood", operation))
        for labels in self.sources.counted:
            self.freeze(labels, self.reason("counted", operation))
        constant = not is_random(operation.func) and all(map(self.is_constant, self._inputs))
        for tensor in operation.results:
            self.shadows.set(tensor, uniform(tensor.shape, FROZEN, constant=constant))

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether an input of the running operation is a constant as a whole."""
        shadow = self.known.get(id(tensor))
        if shadow is None:
            return self.stored.name_of(tensor) is not None
        return bool(compressed(shadow.constant).numpy().all())

    def input(self, operation: Operation) -> Shadow:
        """Return the shadow of the first argument."""
        shadow = self.known.get(id(operation.args[0])) if operation.args else None
        if shadow is None:
            raise NotUnderstood
        return shadow

    def shadow_of(self, tensor: Tensor) -> Shadow:
        """Return the shadow that an input had; of one without channels, that of something which must stay."""
        return self.known.get(id(tensor)) or uniform(tensor.shape, FROZEN)

    def channels(self, shadow: Shadow, dimension: int) -> Tensor:
        """Return the labels along a dimension; those of one place in it, at several in others, go together."""
        labels = shadow.row_along(dimension)
        if labels is not None:
            return labels
        dimension %= shadow.labels.dim()
        if dimension not in shadow.changing:
            raise NotUnderstood
        first = shadow.labels
        for other in changes(first):
            first = first if other == dimension else first.narrow(other, 0, 1)
        self.facts.unite(*aligned(shadow.labels, first))
        return rows_along(first, dimension)[0]

    @staticmethod
    def reason(kind: str, operation: Operation, detail: str = "") -> Reason:
        """Return a reason that is the running operation."""
        return Reason(kind, operation.path, f"{operation.name}{detail}")

    def freeze(self, labels: Tensor, reason: Reason) -> None:
        """Note that channels must stay, each but once where strides tell."""
        self.facts.freeze(compressed(labels), reason)

    # Stored tensors

    def _shadow(self, tensor: Tensor) -> Shadow | None:
        """Return a tensor's shadow; None for one that no channel is known of."""
        found = self.shadows.find(tensor)
        if found is not None or not tensor.dim() or tensor.numel() <= 1:
            return found
        name = self.stored.name_of(tensor)
        if name is None:
            return None
        if tensor.dim() == 1:
            return Shadow(self.row_labels(name, 0, len(tensor)), YES.expand(tensor.shape))
        self._followed.add(name)
        if tensor.numel() > _LARGEST_FOLLOWED:
            return uniform(tensor.shape, FROZEN, constant=True)
        if name not in self.facts.elements:
            self.facts.elements[name] = self.facts.fresh(tensor.numel()).view(tensor.shape)
        return Shadow(self.facts.elements[name], YES.expand(tensor.shape))

    def weight_of(self, weight: Tensor) -> tuple[str, float]:
        """Return the name of the parameter that a weight is, and the number that it was multiplied by."""
        found = self.stored.weight_of(weight)
        if found is None:
            raise NotUnderstood
        return found

    def row_labels(self, name: str, dimension: int, count: int) -> Tensor:
        """Return the labels of a stored tensor's entries along one dimension."""
        if (name, dimension) not in self.facts.rows:
            self.facts.rows[name, dimension] = self.facts.fresh(count)
        return self.facts.rows[name, dimension]

    def bind(self, name: str, dimension: int, labels: Tensor) -> None:
        """Note that the entries of a stored tensor along one dimension belong to channels."""
        if labels is not self._bound:  # the tensors of a BatchNorm are bound to the same labels
            if (labels.numpy() == NONE).any():  # many times as fast as torch for so few
                labels = torch.where(labels == NONE, FROZEN, labels).to(torch.int32)
            self._bound = labels
        self.facts.bind(name, dimension, labels)

    def bind_bias(self, bias: Tensor | None, labels: Tensor, path: str) -> str:
        """Note what a bias belongs to; return its name, empty if there is none, ``"?"`` for one that is computed."""
        if bias is None:
            return ""
        name = self.stored.name_of(bias)
        if name is None:
            self.facts.freeze(labels, Reason("computed", path, "the bias"))
            return "?"
        self.bind(name, 0, labels)
        self.facts.count_use(name)
        return name

    # Consumers, and what reads their output

    def is_plain(self, path: str) -> bool:
        """Whether a module is a convolution or linear layer of PyTorch's, or of a subclass."""
        return path in self._plain

    def add_consumer(self, consumer: Consumer, result: Tensor) -> None:
        """Note a layer that mixes channels."""
        is_own = self.is_plain(consumer.module) and consumer.module == consumer.weight.rpartition(".")[0]
        consumer.is_plain = consumer.is_plain and consumer.bias != "?"
        consumer.padded |= not (consumer.bias or is_own)  # constants can be merged where they cannot be added to a bias
        consumer.losses = len(self.facts.losses)
        self._outputs.set(result, (weakref.ref(result), consumer))
        if consumer.weight not in self.facts.done:
            self.facts.consumers.append(consumer)
        else:
            self._agree(consumer)
        self.facts.count_use(consumer.weight)

    def _agree(self, consumer: Consumer) -> None:
        """Note a layer that ran in an earlier pass: what is a constant must have been the same one there."""
        for known in self.facts.consumers:
            if known.weight != consumer.weight or len(known.inputs) != len(consumer.inputs):
                continue
            close = (known.values - consumer.values).abs() <= _AGREEMENT * known.values.abs()
            known.constant = known.constant & consumer.constant & close
            known.padded |= consumer.padded
            for mean in (known.mean, consumer.mean):
                if mean is not None and (known.mean is None or consumer.mean is None):
                    self.freeze(mean, Reason("reused", known.module, "weight"))
            self.facts.unite(known.inputs, consumer.inputs)
            self._again.append((known, consumer))

    def _note_followers(self, operation: Operation) -> None:
        for tensor in self._inputs:
            if self.stored.is_own(tensor):
                continue
            reference, consumer = self._outputs.get(tensor) or (lambda: None, None)
            if consumer is None or reference() is None:
                continue
            args = operation.args
            is_norm = "batch_norm" in operation.name and reference() is tensor is args[0] and len(args) > 3
            mean = self.stored.name_of(args[3]) if is_norm and isinstance(args[3], Tensor) else None
            is_first = consumer.follower == ""
            consumer.follower = mean.rpartition(".")[0] if mean is not None and is_first else "?"

    def note_output(self, tensor: Tensor) -> None:
        """Note a tensor that the model returns."""
        reference, consumer = self._outputs.get(tensor) or (lambda: None, None)
        if consumer is not None and reference() is not None:
            consumer.follower = "?"
        shadow, mean = self.shadows.find(tensor), self.means.find(tensor)
        if shadow is not None:
            self.freeze(shadow.labels, Reason("output"))
        if mean is not None:
            self.freeze(mean.labels, Reason("output"))

    def finish(self) -> None:
        """Note what only the whole pass shows."""
        for (name, _), labels in self.facts.rows.items():
            if name in self._followed:
                layer, _, attribute = name.rpartition(".")
                self.facts.freeze(labels, Reason("reused", layer, attribute))
        for consumer in self.facts.consumers:  # modules that are made again by widths have no place for a new bias
            is_inside = any(consumer.module.startswith(f"{path}." if path else "") for path in self.facts.inputs)
            consumer.padded |= is_inside and not consumer.bias and consumer.follower in {"", "?"}
        self.facts.note_uses(self.sources.uses)
        self.facts.casts |= self.stored.casts
        for known, again in self._again:
            known.follower = known.follower if known.follower == again.follower else "?"

    def _note_losses(self, operation: Operation, made: list[Shadow]) -> None:
        """Note channels that were constants before an operation, and are none after it."""
        known = [shadow for shadow in self.known.values() if shadow is not None]
        if len(made) == 1 and made[0] in known:  # of no Shadow is it asked what it equals
            return
        if not any(shadow.has_constants for shadow in known):
            return
        if len(made) == 1 and any(made[0].constant is shadow.constant for shadow in known):
            return
        given = [found for shadow in known if (found := labels_where(shadow, constant=True)) is not None]
        if not given:
            return
        live = [found for shadow in made if (found := labels_where(shadow, constant=False)) is not None]
        if live:
            is_live = np.zeros(self.facts.count, dtype=bool)
            is_live[np.concatenate(live)] = True
            before = np.concatenate(given)
            lost = np.unique(before[is_live[before]])
            if len(lost):
                self.facts.losses.append(Loss(lost, operation.name, operation.path))

    # Sizes

    def note_size(self, labels: Tensor, source: Source | None, reason: Reason) -> bool:
        """Note that the code computes the length of a piece from something; return whether that is known."""
        if source is None:
            return False
        if source.channels is None:
            self.facts.cuts.append(Cut(labels, source, reason))
        else:
            self.facts.follows.append(Follow(labels, source.channels, source.compute, reason))
        return True

    def note_rows(self, rows: Tensor, reason: Reason) -> None:
        """Note that rows must keep equally many channels."""
        if len(rows) > 1:
            self.facts.blocks.append(Blocks(list(rows), reason))

    def channels_of(self, tensor: Tensor, dimension: int) -> Tensor | None:
        """Return the labels of channels along a dimension; None if there are none."""
        shadow = self.shadows.find(tensor)
        if shadow is None or dimension not in shadow.changing:
            return None
        return rows_along(shadow.labels, dimension)[0]
