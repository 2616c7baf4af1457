"""PReLU: PyTorch's own, value for value and gradient for gradient, in every form that it is used in."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from goctconv import PReLU

SHAPES = [(4, 3), (4, 3, 7), (4, 3, 7, 5), (2, 3, 4, 5, 6), (0, 3, 7, 5), (2, 3, 0, 5)]


def gradients(module: nn.Module, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = module(x)
    return y, *torch.autograd.grad(y, (x, module.weight), gradient)


@pytest.mark.parametrize("slopes", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_pytorchs(shape: tuple[int, ...], slopes: int, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    ours, theirs = PReLU(slopes).to(dtype), nn.PReLU(slopes).to(dtype)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape).to(dtype)
    x.view(-1)[::7] = 0
    gradient = torch.randn(shape).to(dtype)
    pairs = zip(*(gradients(one, x.clone().requires_grad_(), gradient) for one in (ours, theirs)), strict=True)
    for actual, expected in pairs:
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("shape", [(4, 3, 7, 5), (2, 3, 4, 5, 6)])
def test_the_format_of_memory_is_kept(shape: tuple[int, ...]) -> None:
    kind = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape).to(memory_format=kind).requires_grad_()
    y = PReLU(3)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.is_contiguous(memory_format=kind)
    assert gradient.is_contiguous(memory_format=kind)


def test_second_derivatives() -> None:
    module = PReLU(3).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, (x, module.weight))
    assert torch.autograd.gradgradcheck(run, (x, module.weight))


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_what_needs_no_gradient_gets_none(frozen: str) -> None:
    module, x = PReLU(3), torch.randn(2, 3, 4, requires_grad=frozen != "x")
    module.weight.requires_grad_(frozen != "weight")
    module(x).sum().backward()
    assert (x.grad is None) == (frozen == "x")
    assert (module.weight.grad is None) == (frozen == "weight")


def test_transforms_of_functions() -> None:
    module, xs = PReLU(3), torch.randn(5, 2, 3, 4)
    plain = nn.PReLU(3)

    def loss(weight: Tensor, x: Tensor, layer: nn.Module) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None))
    torch.testing.assert_close(per_sample(module.weight, xs, module), per_sample(plain.weight, xs, plain))


def test_under_autocast() -> None:
    x = torch.randn(4, 3, 7, 5, requires_grad=True)
    results = []
    for kind in (PReLU, nn.PReLU):
        with torch.autocast("cpu", torch.bfloat16):
            y = kind(3)(nn.functional.conv2d(x, torch.eye(3)[:, :, None, None]))
        (gradient,) = torch.autograd.grad(y.float().sum(), x)
        results.append((y, gradient))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_compiled_without_a_graph_break() -> None:
    module, x = PReLU(3), torch.randn(2, 3, 4, requires_grad=True)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    gradient = torch.randn(2, 3, 4)
    for actual, expected in zip(gradients(compiled, x, gradient), gradients(module, x, gradient), strict=True):
        torch.testing.assert_close(actual, expected)


def test_is_a_prelu_to_others() -> None:
    module = PReLU(3, init=0.5)
    assert isinstance(module, nn.PReLU)
    assert repr(module) == "PReLU(num_parameters=3)"
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301  # our own
        assert torch.equal(other.weight, module.weight)
    program = torch.export.export(module, (torch.randn(2, 3, 4),))
    assert "prelu" in program.graph_module.code
