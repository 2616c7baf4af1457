"""Models of every kind: wrapped, in half precision, with hooks, shared and tied parts, auxiliary heads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from goctconv.pruning import Reason, plan_pruning, prune_channels
from reference.random_networks import difference, masked, randomize
from reference.zoo.blocks import Activated, Residual
from reference.zoo.chains import dense
from reference.zoo.outputs import Returning
from reference.zoo.wiring import AuxiliaryHead, Buffered, NeedsTargets, SharedBlock

EXAMPLE = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network() -> nn.Sequential:
    return randomize(dense(), share=0.5, seed=1).eval()


def widths(model: nn.Module) -> list[int]:
    return [one.num_features for one in model.modules() if isinstance(one, nn.BatchNorm2d)]


@torch.no_grad()
def assert_pruned(model: nn.Module, example: Any = EXAMPLE, tolerance: float = 1e-12, **options: Any) -> nn.Module:
    """Prune, compare with the masked network, and return the slim model."""
    oracle = masked(model)
    result = prune_channels(model, example, threshold=1e-20, **options)
    assert sum(one.numel() for one in result.model.parameters()) < sum(one.numel() for one in model.parameters())
    call = example if isinstance(example, tuple) else (example,)
    expected, actual = (one.eval()(*call) for one in (oracle, copy.deepcopy(result.model)))
    assert difference(expected.double(), actual.double()) <= tolerance
    return result.model


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_wrapped_in_distributed_data_parallel() -> None:
    model = network()
    slim = prune_channels(DistributedDataParallel(model), EXAMPLE, threshold=1e-20).model
    assert isinstance(slim, nn.Sequential)
    assert torch.equal(slim(EXAMPLE), prune_channels(model, EXAMPLE, threshold=1e-20).model(EXAMPLE))


@pytest.mark.parametrize("wrap", [DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrapped(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network()
    slim = prune_channels(wrap(model), EXAMPLE, threshold=1e-20).model
    assert isinstance(slim, nn.Sequential)
    assert widths(slim) == widths(prune_channels(model, EXAMPLE, threshold=1e-20).model) < widths(model)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_precisions(dtype: torch.dtype, tolerance: float) -> None:
    slim = assert_pruned(network().to(dtype), EXAMPLE.to(dtype), tolerance)
    assert {one.dtype for one in slim.parameters()} == {dtype}


def test_hooks_stay() -> None:
    seen: list[torch.Size] = []
    model = network()
    model[1].register_forward_hook(lambda _, __, output: output * 2)
    model[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    slim = assert_pruned(model)
    seen.clear()
    slim(EXAMPLE)
    assert [tuple(one) for one in seen] == [(2, widths(slim)[1], 9, 11)]
    assert len(slim[1]._forward_hooks) == len(model[1]._forward_hooks) == 1


def test_shared_modules() -> None:
    torch.manual_seed(6)
    slim = assert_pruned(randomize(SharedBlock().double(), share=0.5, seed=4).eval())
    assert slim.shared is slim.alias
    assert slim.last.norm.num_features < 6


def test_tied_weights() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(
        Activated(nn.Conv2d(3, 8, 1), nn.ReLU()),
        Residual(Activated(nn.Conv2d(8, 8, 1, bias=False), nn.ReLU())),
        Residual(Activated(nn.Conv2d(8, 8, 1, bias=False), nn.ReLU())),
        Activated(nn.Conv2d(8, 8, 1), nn.ReLU()),
        nn.Conv2d(8, 2, 1),
    ).double()
    model[2].body.conv.weight = model[1].body.conv.weight
    randomize(model, share=0.5, seed=4).eval()
    with torch.no_grad():
        for index in range(3):
            norm = model[index].norm if index == 0 else model[index].body.norm
            norm.weight[:3] = 0
            norm.bias[:3] = 0
    slim = assert_pruned(model)
    assert slim[2].body.conv.weight is slim[1].body.conv.weight
    assert slim[1].body.conv.weight.shape[:2] == (5, 5)


def with_heads(model: nn.Module) -> nn.Module:
    for module in model.modules():
        module.training = not isinstance(module, nn.BatchNorm2d | nn.Dropout)
    return model


def test_auxiliary_heads_are_pruned_along() -> None:
    torch.manual_seed(6)
    model = randomize(AuxiliaryHead().double(), share=0.5, seed=4).train()
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    assert result.model.training
    assert set(result.report.difference) == {"the example", "random input", "another size", "auxiliary heads"}
    assert widths(result.model) == [layer.left for layer in result.report.layers.values()]
    assert all(layer.removed for layer in result.report.layers.values())
    with torch.no_grad():
        expected, actual = (with_heads(one)(EXAMPLE) for one in (masked(model), copy.deepcopy(result.model)))
    assert difference(expected[0], actual[0]) <= 1e-12
    assert difference(expected[1], actual[1]) <= 1e-12
    sum(output.sum() for output in result.model(EXAMPLE)).backward()
    assert all(one.grad is not None for one in result.model.parameters())


def test_heads_that_cannot_be_run_are_noted() -> None:
    torch.manual_seed(6)
    report = prune_channels(randomize(NeedsTargets().double(), share=0.5, seed=4), EXAMPLE, threshold=1e-20).report
    assert report.notes[0].startswith("head.0.conv, head.0.norm, head.2 did not run in eval mode, and the model")
    assert "targets must be given" in report.notes[0]
    assert set(report.layers["head.0.norm"].held.values()) == {Reason("not_run")}


def test_flags_are_kept() -> None:
    model = network().train()
    model[0].norm.eval()
    model[2].eval()
    model[1].conv.weight.requires_grad_(False)
    model[2].norm.requires_grad_(False)
    slim = prune_channels(model, EXAMPLE, threshold=1e-20).model
    modes = {name: module.training for name, module in model.named_modules()}
    assert {name: module.training for name, module in slim.named_modules()} == modes
    assert len(set(modes.values())) == 2
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert {name for name, one in slim.named_parameters() if not one.requires_grad} == frozen
    assert len(frozen) == 3


def test_memory_format_is_kept() -> None:
    model = network().to(memory_format=torch.channels_last)
    slim = assert_pruned(model, EXAMPLE.contiguous(memory_format=torch.channels_last))
    weight = slim[1].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_buffers_and_inputs_that_are_changed_in_place() -> None:
    model, example = Buffered(*network()).eval(), EXAMPLE.clone()
    result = prune_channels(model, example, threshold=1e-20)
    assert (model.calls, result.model.calls) == (0, 0)
    assert torch.equal(example, EXAMPLE)
    assert difference(masked(model)(EXAMPLE.clone()), result.model(EXAMPLE.clone())) <= 1e-12


@dataclass
class Output:
    """What some libraries return."""

    logits: Tensor
    features: list[Tensor]
    loss: Tensor | None = None


class Mapping(dict[str, Any]):
    """A dict that torch's pytree does not know."""


RETURNED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"out": a, "more": [b]},
    "mapping": lambda a, b: Mapping(out=a, more=(b, 3)),
    "dataclass": lambda a, b: Output(a, [b]),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_outputs(kind: str) -> None:
    model = Returning(network(), RETURNED[kind]).eval()
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    left = widths(result.model)
    assert left[1] == 8  # put out
    assert left[0] < 8
    assert left[2] < 12
    assert set(result.report.layers["body.1.norm"].held.values()) == {Reason("output")}


@pytest.mark.parametrize(
    "example",
    [
        (EXAMPLE, torch.tensor(2.0, dtype=torch.float64)),
        (EXAMPLE,),
        {"x": EXAMPLE, "flip": True},
        {"x": EXAMPLE, "scale": torch.tensor([3.0], dtype=torch.float64)},
    ],
)
def test_inputs(example: Any) -> None:
    plan = plan_pruning(Returning(network(), RETURNED["tuple"]).eval(), example, threshold=1e-20)
    assert sorted(plan.removed) == ["body.0.norm", "body.2.norm"]


def test_a_second_call_removes_nothing() -> None:
    result = prune_channels(network(), EXAMPLE, threshold=1e-20)
    again = prune_channels(result.model, EXAMPLE, threshold=1e-20)
    assert again.plan.removed == {}
    assert str(again.model) == str(result.model)


def test_without_verification_only_the_example_is_compared() -> None:
    report = prune_channels(network(), EXAMPLE, threshold=1e-20, verify=False).report
    assert list(report.difference) == ["the example"]
    assert report.milliseconds is None


def test_latency_is_measured_on_request() -> None:
    report = prune_channels(network(), EXAMPLE, threshold=1e-20, latency=True).report
    assert report.milliseconds is not None
    assert min(report.milliseconds) > 0
