"""Does a pruned network give what the masked one gives, on other inputs and at another size too?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._errors import PruningError

_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 1e-1}
_NOISE_FACTOR = 20
_LARGER_BY = 32

Call = tuple[tuple[Any, ...], dict[str, Any]]


def verify(masked: nn.Module, slim: nn.Module, call: Call) -> dict[str, float]:
    """Compare outputs on the example, on random input of its shapes, and at a second size that the model takes.

    Returns:
        The largest difference, relative to the largest output, by what was put in.

    Raises:
        PruningError: They differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    found: dict[str, float] = {}
    inputs = {"the example": call, "random input": _random(call, generator)}
    larger = _larger(call, generator)
    if larger is not None and _runs(masked, larger):
        inputs["another size"] = larger
    for name, one in inputs.items():
        try:
            found[name] = compare(masked, slim, one)
        except PruningError:
            raise
        except Exception as error:
            raise PruningError(f"the pruned model does not run on {name}: {type(error).__name__}: {error}") from error
    return found


def compare(masked: nn.Module, slim: nn.Module, call: Call) -> float:
    """Return the largest difference of two networks' outputs, relative to the largest output.

    Raises:
        PruningError: It is more than rounding explains.
    """
    expected, actual = _outputs(masked, call), _outputs(slim, call)
    if [one.shape for one in expected] != [one.shape for one in actual]:
        raise PruningError(
            f"the pruned model puts out {[tuple(one.shape) for one in actual]}, "
            f"the masked one {[tuple(one.shape) for one in expected]}"
        )
    worst = 0.0
    for a, b in zip(expected, actual, strict=True):
        if not a.is_floating_point() or not a.numel():
            if not torch.equal(a, b):
                raise PruningError("an output that is no floating-point number differs")
            continue
        difference = _relative(a, b)
        if not difference <= _TOLERANCE.get(a.dtype, 1e-4) and not difference <= _NOISE_FACTOR * _noise(masked, call):
            raise PruningError(
                f"the outputs of the pruned and the masked model differ by {difference:.1e} of the largest"
            )
        worst = max(worst, difference)
    return worst


def _relative(a: Tensor, b: Tensor) -> float:
    scale = a.double().abs().amax()
    if not torch.isfinite(scale):
        finite = torch.isfinite(a)
        if not torch.equal(finite, torch.isfinite(b)):
            return float("inf")
        return _relative(a[finite], b[finite]) if finite.any() else 0.0
    return float((a.double() - b.double()).abs().amax() / scale.clamp(min=1e-300))


def _noise(model: nn.Module, call: Call) -> float:
    """Return by how much the outputs change if the input does in its last bits."""

    def shaken(tensor: Tensor) -> Tensor:
        return tensor * (1 + 4 * torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else tensor

    a, b = _outputs(model, call), _outputs(model, pytree.tree_map_only(Tensor, shaken, call))
    return max((_relative(x, y) for x, y in zip(a, b, strict=True) if x.is_floating_point()), default=0.0)


def _outputs(model: nn.Module, call: Call) -> list[Tensor]:
    with torch.no_grad():
        output = model(*call[0], **call[1])
    if hasattr(output, "__dict__") and not isinstance(output, Tensor | dict | list | tuple):
        output = list(vars(output).values())
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def _random(call: Call, generator: torch.Generator) -> Call:
    def drawn(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)

    return pytree.tree_map_only(Tensor, drawn, call)


def _larger(call: Call, generator: torch.Generator) -> Call | None:
    """Return random input with more rows of pixels; None if nothing in it is an image."""
    images = [leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, Tensor) and leaf.dim() == 4]
    if not images:
        return None

    def drawn(tensor: Tensor) -> Tensor:
        if tensor.dim() != 4 or not tensor.is_floating_point():
            return tensor
        shape = (*tensor.shape[:2], tensor.shape[2] + _LARGER_BY, tensor.shape[3])
        return torch.randn(shape, generator=generator).to(tensor.device, tensor.dtype)

    return pytree.tree_map_only(Tensor, drawn, call)


def _runs(model: nn.Module, call: Call) -> bool:
    try:
        _outputs(model, call)
    except Exception:  # noqa: BLE001  # networks refuse sizes in many ways
        return False
    return True


@contextmanager
def undisturbed(*models: nn.Module) -> Iterator[None]:
    """Run models in eval mode, and leave their modes and the global random state as they were."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    devices = {tensor.device for model in models for tensor in model.parameters() if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted({device.index or 0 for device in devices})):
        for model in models:
            model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
