"""Costs of a forward pass: multiply-accumulate operations, parameters and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from .._torch import ConvNd, ConvTransposeNd
from ._modules import modules_of, parameters_in
from ._operators import BATCHED_PRODUCTS, MATRIX_PRODUCTS
from ._tracer import Observer, Operation


class Product(NamedTuple):
    """A convolution or a matrix product; its operations are without those of a bias."""

    source: Tensor
    macs: int
    in_channels: int
    out_channels: int


def product_of(operation: Operation) -> Product | None:
    """Return an operation that has run as a product; None for one that is none."""
    name, args, result = operation.name, operation.args, operation.result
    if name == "convolution":
        macs = convolution_macs(args[0], args[1], result, transposed=args[6])
        return Product(args[0], macs, args[0].shape[1], result.shape[1])
    position = MATRIX_PRODUCTS.get(name, BATCHED_PRODUCTS.get(name))
    if position is None:
        return None
    source = args[position]
    return Product(source, result.numel() * source.shape[-1], source.shape[-1], result.shape[-1])


def convolution_macs(source: Tensor, weight: Tensor, result: Tensor, *, transposed: bool) -> int:
    """Return the multiply-accumulate operations of a convolution with any groups."""
    elements = (source if transposed else result).numel()
    return elements * (weight.numel() // max(weight.shape[0], 1))


class MacsCounter(Observer):
    """Counts the multiply-accumulate operations of convolutions, linear layers and matrix products."""

    def __init__(self) -> None:
        self.total = 0

    def after(self, operation: Operation) -> None:
        """Count an operation."""
        product = product_of(operation)
        if product is not None:
            self.total += product.macs


@dataclass
class Cost:
    """Parameters of a model, and what its convolutions and linear layers cost in one forward pass."""

    parameters: int = 0
    macs: int = 0
    activations: int = 0  # bytes of their outputs


@contextmanager
def measuring_cost(model: nn.Module) -> Iterator[Cost]:
    """Count what modules cost while the context lasts, by hooks: cheaper than a recording where others need none."""
    modules = modules_of(model)
    cost = Cost(sum(parameter.numel() for parameter in parameters_in(modules)))

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        weight = module.weight
        if isinstance(output, Tensor) and isinstance(weight, Tensor):
            is_transposed = isinstance(module, ConvTransposeNd) and bool(inputs)
            cost.macs += convolution_macs(inputs[0] if inputs else output, weight, output, transposed=is_transposed)
            cost.activations += output.numel() * output.element_size()

    layers = [module for module in modules if isinstance(module, ConvNd | nn.Linear)]
    handles = [module.register_forward_hook(count) for module in layers]
    try:
        yield cost
    finally:
        for handle in handles:
            handle.remove()


def peak_memory(call: Callable[[], object]) -> int:
    """Return the most bytes that PyTorch holds at once during a call, beside what it held before, on the processor."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = most = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
