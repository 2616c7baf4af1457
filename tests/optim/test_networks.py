"""A hundred and ten networks take two steps: every BatchNorm is found, read where it should be, and left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD

from goctconv import DynamicWeightDecay
from goctconv.optim._results import LayerStatistics
from reference.following import Activation, Following
from reference.networks import NETWORKS, images, make, tensors

QUICK = {
    "timm/botnet26t_256",
    "timm/cs3darknet_focus_s",  # strided slicing
    "timm/dla60_res2net",
    "timm/dpn48b",  # tuples between blocks
    "timm/ecaresnet26t",
    "timm/efficientformer_l1",
    "timm/efficientnet_b0",
    "timm/efficientnet_cc_b0_4e",  # weights computed from the images
    "timm/ghostnet_050",
    "timm/hrnet_w18_small",  # sums over scales
    "timm/levit_128s",  # BatchNorm of tokens, and a head for distillation
    "timm/mixnet_s",
    "timm/mobilenetv3_small_050",
    "timm/repvgg_a0",  # sums of BatchNorms
    "timm/resnest14d",
    "timm/resnetblur18",
    "timm/skresnet18",
    "torchvision/googlenet",  # auxiliary heads
    "torchvision/lraspp_mobilenet_v3_large",
    "torchvision/shufflenet_v2_x0_5",
}
REFERENCE = {
    "function": (lambda x, _: x.relu(), ("relu",), torch.relu),
    "gated by itself": (lambda x, _: x * x.sigmoid(), ("sigmoid", "mul"), functional.silu),
    "hand-written": (
        lambda x, _: x * functional.relu6(x + 3) / 6,
        ("add", "relu6", "mul", "div"),
        functional.hardswish,
    ),
    "less a function of itself": (lambda x, _: x - x.tanh(), ("tanh", "sub"), functional.tanhshrink),
    "channels last": (lambda x, _: x.permute(0, 2, 3, 1).abs().permute(0, 3, 1, 2), ("abs",), torch.abs),
    "in place": (
        lambda x, _: x.mul_(2).add_(1).sigmoid_().mul_(3),
        ("mul", "add", "sigmoid"),
        lambda x: (2 * x + 1).sigmoid(),
    ),
    "activation before a sum": (lambda x, other: x.relu() + other.relu(), ("relu",), torch.relu),
    "gate of another tensor": (lambda x, other: other * x.sigmoid(), ("sigmoid",), torch.sigmoid),
    "sum": (lambda x, other: (x + other).relu(), (), torch.clone),
    "sum in place": (lambda x, other: x.add_(other).relu_(), (), torch.clone),
    "gated by another tensor": (lambda x, other: x * other.sigmoid(), (), torch.clone),
    "pooling": (lambda x, _: functional.max_pool2d(x, 2).relu(), (), torch.clone),
    "concatenation": (lambda x, _: torch.cat([x, -x], 1).relu(), (), torch.clone),
}
"""What comes behind a BatchNorm, given its output and another tensor; the operations that count; what is read."""

DECAY = 3.0
SEED = 7


class _Network(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.norm(x), x)


@pytest.mark.parametrize(("function", "operations", "read"), REFERENCE.values(), ids=REFERENCE)
def test_reference(
    function: Callable[[Tensor, Tensor], Tensor], operations: tuple[str, ...], read: Callable[[Tensor], Tensor]
) -> None:
    model, batch = _Network(function), torch.randn(2, 3, 5, 7)
    following = Following(model, batch)
    assert following.activations() == {"norm": Activation(operations)}
    pooled = read(model.norm(batch)).mean((2, 3)).abs().mean(0)
    torch.testing.assert_close(following.pooled(batch)["norm"], pooled.detach().double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_two_steps(name: str) -> None:
    model, batch = make(name), images(name, smallest=True)
    following = Following(model, batch)
    torch.manual_seed(SEED)
    pooled = following.pooled(batch)
    norms = {path: norm for path, norm in model.named_modules() if isinstance(norm, _BatchNorm) and norm.affine}
    before = list(_attachments(model))
    optimizer = DynamicWeightDecay(SGD(model.parameters(), 0.0, weight_decay=1e-4), model, weight_decay=DECAY)
    _assert_scales_are_apart(optimizer, list(norms.values()))

    with warnings.catch_warnings(record=True) as caught:
        for rate in (0.0, 0.01):  # the first step finds the activations, the second one reads them with hooks
            for group in optimizer.param_groups:
                group["lr"] = rate
            scales = {path: norm.weight.detach().clone() for path, norm in norms.items()}
            gradients = _backward(model, batch, norms)
            optimizer.step()
            metrics = optimizer.metrics()
            assert set(metrics) == {path for path in pooled if path in norms}
            for path, layer in metrics.items():
                assert layer.images == following.images[path]
                torch.testing.assert_close(layer.metric.double(), pooled[path], rtol=1e-4, atol=1e-5, msg=path)
                if gradients[path] is not None:
                    moved = scales[path] - rate * (gradients[path] + DECAY * layer.metric * scales[path])
                    torch.testing.assert_close(norms[path].weight.detach(), moved, msg=path)
    for path, activation in following.activations().items():
        if path in metrics:
            _assert_same(metrics[path], activation, path, model)
    unseen = [path for path in norms if path not in pooled]
    without = [path for path in metrics if gradients[path] is None]
    _assert_justified([str(one.message) for one in caught], unseen, without)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())

    optimizer.remove()
    assert list(_attachments(model)) == before


def _backward(model: nn.Module, batch: Tensor, norms: dict[str, _BatchNorm]) -> dict[str, Tensor | None]:
    """Return the gradients of the scales."""
    torch.manual_seed(SEED)
    model.zero_grad()
    sum(output.square().mean() for output in tensors(model(batch))).backward()
    return {path: None if norm.weight.grad is None else norm.weight.grad.clone() for path, norm in norms.items()}


def _assert_scales_are_apart(optimizer: DynamicWeightDecay, norms: list[_BatchNorm]) -> None:
    scales = {norm.weight for norm in norms}
    decays = {
        parameter: (group["weight_decay"], group.get("dynamic_weight_decay"))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {scale for scale, decay in decays.items() if decay == (0.0, DECAY)} == scales
    assert {decay for parameter, decay in decays.items() if parameter not in scales} == {(1e-4, None)}


def _assert_same(found: LayerStatistics, expected: Activation, path: str, model: nn.Module) -> None:
    described = f"behind {path} found {found.activation!r}, expected {expected}"
    if not expected.operations:
        assert found.activation == "its output", described
    elif found.activation == "its own activation":
        assert expected.module == path or expected.module.startswith(f"{path}."), described
    elif "(" in found.activation:
        module, _, kind = found.activation.rstrip(")").partition(" (")
        assert expected.module == module or expected.module.startswith(f"{module}."), described
        assert type(model.get_submodule(module)).__name__ == kind
    else:
        assert found.activation == expected.operations[-1], described


def _assert_justified(messages: list[str], unseen: list[str], without: list[str]) -> None:
    """Assert that there is one warning for each reason that there is, about all layers that it holds for."""
    expected = []
    for paths, reason in ((unseen, "no activation was seen behind"), (without, "has no gradient")):
        if paths:
            expected.append(reason)
            message = next(one for one in messages if reason in one)
            assert repr(paths[0]) in message
            assert len(paths) <= 3 or f"and {len(paths) - 3} more layers" in message
    assert len(messages) == len(expected), messages


def _attachments(model: nn.Module) -> Iterator[tuple[Any, ...]]:
    """Yield what can be attached to modules and parameters, in an order that is always the same."""
    for path, module in model.named_modules():
        hooks = {name: dict(value) for name, value in vars(module).items() if "hook" in name and value is not None}
        yield path, sorted(vars(module)), hooks
    for path, parameter in model.named_parameters():
        yield path, vars(parameter), parameter._backward_hooks, parameter._post_accumulate_grad_hooks
