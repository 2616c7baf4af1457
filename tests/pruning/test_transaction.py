"""An exception at any stage leaves the model bit for bit as it was; without ``inplace`` nothing is touched at all."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import goctconv
from goctconv.pruning import PruningError, plan_pruning, prune_channels
from goctconv.pruning import _plan as plan_module
from goctconv.pruning import _prune as prune
from goctconv.pruning import _verify as verify
from goctconv.pruning.surgery import Surgery
from goctconv.pruning.surgery import _cut as cut_module
from reference.random_networks import randomize
from reference.zoo.chains import mixed

EXAMPLE = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class StopError(Exception):
    """What a stage raises in these tests."""


def network() -> nn.Sequential:
    torch.manual_seed(3)
    model = mixed(in_pieces=True)
    randomize(model, share=0.5, seed=1)
    with torch.no_grad():
        model[6].norm.bias[model[6].norm.weight.abs() < 1e-20] = 0.7  # a constant that the last layer needs a bias for
    model[0].norm.eval()
    model[2].body.conv.weight.requires_grad_(False)
    model(EXAMPLE).sum().backward()
    return model


def csnet() -> nn.Module:
    model = goctconv.create_model("csnet_x1_l").double().train()
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            faded = torch.rand(module.num_features, generator=generator) < 0.5
            module.weight.data[faded] = 1e-25
    return model


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that pruning could change: tensors by identity and value, attributes, flags, children, hooks."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        attributes = {
            key: pickle.dumps(value)
            for key, value in vars(module).items()
            if key not in {"_parameters", "_buffers", "_modules"} and not key.endswith("hooks") and not callable(value)
        }
        found[path] = (id(module), type(module), attributes, [(key, id(one)) for key, one in module._modules.items()])
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            found[f"{path}:{name}"] = None if tensor is None else (id(tensor), bits(tensor), tensor.requires_grad)
    return found


def bits(tensor: Tensor) -> tuple[bytes, tuple[int, ...], tuple[int, ...], bytes | None]:
    grad = None if tensor.grad is None else tensor.grad.numpy().tobytes()
    return tensor.detach().numpy().tobytes(), tuple(tensor.shape), tensor.stride(), grad


def failing(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return the function, which raises instead of, or directly behind, one of its calls."""
    calls = 0

    def replaced(*args: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise StopError
        return function(*args, **keywords)

    return replaced


STAGES = {
    "mask": (plan_module.Masks, "apply"),
    "keep values": (Surgery, "keep_values"),
    "surgery": (Surgery, "apply"),
    "cut": (cut_module, "cut_tensor"),
    "add a bias": (Surgery, "_add_bias"),
    "replace a tensor": (Surgery, "_replace"),
    "measure": (Surgery, "_measure"),
    "set an attribute": (Surgery, "_set"),
    "verify": (verify.Verifier, "check"),
}


def stopped(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, example: Tensor, stage: tuple[Any, str], at: int
) -> bool:
    """Prune with an exception at a call of a stage that changes the model itself; return whether it came to that."""
    owner, attribute = stage
    changed = prune._changed

    def watched(*args: Any) -> nn.Module:
        monkeypatch.setattr(owner, attribute, failing(getattr(owner, attribute), at))
        return changed(*args)

    monkeypatch.setattr(prune, "_changed", watched)
    try:
        prune_channels(model, example, threshold=1e-20, inplace=True)
    except StopError:
        return True
    return False


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_stage_is_taken_back(monkeypatch: pytest.MonkeyPatch, stage: str, at: int) -> None:
    model = network()
    before = state_of(model)
    if stopped(monkeypatch, model, EXAMPLE, STAGES[stage], at):
        assert state_of(model) == before
    else:
        assert at > 1
        assert state_of(model) != before


@pytest.mark.parametrize("at", [1, 3, 11])
def test_a_failing_resize_of_our_layers_is_taken_back(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    model = csnet()
    before = state_of(model)
    example = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    assert stopped(monkeypatch, model, example, (Surgery, "_resize"), at)
    assert state_of(model) == before


def test_a_mismatch_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    before = state_of(model)
    apply = Surgery.apply

    def wrong(self: Surgery, *args: Any) -> None:
        apply(self, *args)
        with torch.no_grad():
            self._model[2].body.norm.bias.data = self._model[2].body.norm.bias + 1  # not what masking gives

    monkeypatch.setattr(Surgery, "apply", wrong)
    with pytest.raises(PruningError, match=r"differ by .* on the example; 2\.body\.norm is the first BatchNorm"):
        prune_channels(model, EXAMPLE, threshold=1e-20)
    assert state_of(model) == before


def test_an_exception_of_the_pruned_model_names_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Surgery.apply

    def wrong(self: Surgery, *args: Any) -> None:
        apply(self, *args)
        self._model[3].reduce.weight = nn.Parameter(self._model[3].reduce.weight[:, :1])

    monkeypatch.setattr(Surgery, "apply", wrong)
    with pytest.raises(PruningError, match=r"does not run on the example: 3\.reduce raised RuntimeError"):
        prune_channels(network(), EXAMPLE, threshold=1e-20)


@pytest.mark.parametrize("make", [network, csnet])
@pytest.mark.parametrize("call", [prune_channels, plan_pruning])
def test_the_original_is_not_touched(make: Callable[[], nn.Module], call: Callable[..., Any]) -> None:
    model = make().train()
    example = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    before, given, random = state_of(model), example.clone(), torch.get_rng_state()
    result = call(model, example, threshold=1e-20, criterion="gamma_first")
    assert state_of(model) == before
    assert torch.equal(example, given)
    assert torch.equal(torch.get_rng_state(), random)
    if call is prune_channels:
        storages = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
        slim = [*result.model.parameters(), *result.model.buffers()]
        assert storages.isdisjoint(one.untyped_storage().data_ptr() for one in slim)
        assert len(slim) > 10


def test_inplace_changes_the_model_itself() -> None:
    model, copied = network(), copy.deepcopy(network())
    result = prune_channels(model, EXAMPLE, threshold=1e-20, inplace=True)
    assert result.model is model
    assert sum(one.numel() for one in model.parameters()) == result.report.parameters[1] < result.report.parameters[0]
    expected = prune_channels(copied, EXAMPLE, threshold=1e-20).model
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert model[7].bias is not None
