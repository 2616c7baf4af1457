"""Copies of models and optimizers: EMA, deep copies, pickles, and resuming from state dicts."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from goctconv import DynamicWeightDecay, prune_channels
from goctconv.graph import OwnedHook, drop_copied_hooks
from reference.decay import DECAY, Batch, assert_same, batches, loss_of, singly, tiny_network, train
from reference.zoo.tiny import TinyNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = batches(5, 4, 6, 3, 5, 4)
ACTIVATIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {"module": nn.ReLU, "function": lambda: torch.relu}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": lambda parameters: Adam(parameters, lr=0.02),
    "AdamW": lambda parameters: AdamW(parameters, lr=0.02, amsgrad=True),
}


def made(kind: str = "SGD", activation: str = "module", **options: Any) -> tuple[TinyNetwork, DynamicWeightDecay]:
    model = tiny_network(ACTIVATIONS[activation]())
    return model, DynamicWeightDecay(OPTIMIZERS[kind](model.parameters()), model, weight_decay=DECAY, **options)


def averaged(model: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    return average, average.update_parameters


def averaged_by_timm(model: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    average = ModelEmaV3(model, decay=0.9)
    return average.module, average.update


def averaged_by_hand(model: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    average = copy.deepcopy(model)

    @torch.no_grad()
    def update(trained: nn.Module) -> None:
        for ours, theirs in zip(average.parameters(), trained.parameters(), strict=True):
            ours.lerp_(theirs, 0.1)

    return average, update


@pytest.mark.parametrize("begin", [0, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", [averaged, averaged_by_timm, averaged_by_hand])
def test_averages_count_nothing(kind: Callable[[nn.Module], Any], activation: str, begin: int) -> None:
    """The copy runs in train mode with gradients and is never counted, made before or after the first step."""
    model, optimizer = made(activation=activation)
    alone, plain = made(activation=activation)
    train(model, optimizer, *singly(DATA[:begin]))
    average, update = kind(model)
    for images, target in DATA[begin:]:
        optimizer.zero_grad()
        loss_of(model(images), target).backward()
        average.train()(images + 1).sum().backward()
        average.zero_grad()
        optimizer.step()
        update(model)
        assert optimizer.metrics()["bn1"].images == len(images)
    train(alone, plain, *singly(DATA))
    assert_same(model, alone, tolerance=0)
    inner = average.module if isinstance(average, AveragedModel) else average
    assert (inner.bn1.weight - model.bn1.weight).abs().max() > 1e-4


def test_statistics_of_an_average_are_updated() -> None:
    model, optimizer = made()
    average, update = averaged(model)
    train(model, optimizer, *singly(DATA[:2]))
    update(model)
    update_bn([images for images, _ in DATA[:2]], average)
    assert average.module.bn1.num_batches_tracked == 2
    train(model, optimizer, *singly(DATA[2:]))
    alone, plain = made()
    train(alone, plain, *singly(DATA))
    assert_same(model, alone, tolerance=0)


def joint_copy(pair: tuple[TinyNetwork, DynamicWeightDecay]) -> tuple[TinyNetwork, DynamicWeightDecay]:
    return copy.deepcopy(pair)


def copy_of_the_optimizer(pair: tuple[TinyNetwork, DynamicWeightDecay]) -> tuple[Any, DynamicWeightDecay]:
    optimizer = copy.deepcopy(pair[1])
    return optimizer.model, optimizer


def pickled(pair: tuple[TinyNetwork, DynamicWeightDecay]) -> tuple[TinyNetwork, DynamicWeightDecay]:
    unpickled: tuple[TinyNetwork, DynamicWeightDecay] = pickle.loads(pickle.dumps(pair))  # noqa: S301  # made here
    return unpickled


def saved_by_torch(pair: tuple[TinyNetwork, DynamicWeightDecay]) -> tuple[TinyNetwork, DynamicWeightDecay]:
    file = io.BytesIO()
    torch.save(pair, file)
    file.seek(0)
    loaded: tuple[TinyNetwork, DynamicWeightDecay] = torch.load(file, weights_only=False)
    return loaded


COPIES = [joint_copy, copy_of_the_optimizer, pickled, saved_by_torch]


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("copied", COPIES)
def test_copies_continue_identically(copied: Callable[..., Any], kind: str, steps: int) -> None:
    """Also with images that were seen but not used yet; and with a copy of the copy."""
    model, optimizer = made(kind, "function")
    train(model, optimizer, *singly(DATA[:steps]))
    optimizer.zero_grad()
    loss_of(model(DATA[3][0]), DATA[3][1]).backward()
    twin, other = copied(copied((model, optimizer)))
    assert twin.bn1.weight is not model.bn1.weight
    assert any(parameter is twin.bn1.weight for group in other.param_groups for parameter in group["params"])
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        ours.grad = theirs.grad.clone()  # pickles do not hold gradients
    for one, network in ((optimizer, model), (other, twin)):
        loss_of(network(DATA[4][0]), DATA[4][1]).backward()
        one.step()
        assert one.metrics()["bn1"].images == 3 + 5
        train(network, one, [DATA[5]])
    assert_same(twin, model, tolerance=0)


@pytest.mark.parametrize("cost", [None, "macs", "resolution"])
@pytest.mark.parametrize("copied", COPIES)
def test_copy_between_backward_and_step(copied: Callable[..., Any], cost: str | None) -> None:
    """The copy steps before it has run, with the images and the costs of the original."""
    model, optimizer = made(cost=cost)
    train(model, optimizer, [DATA[0]])
    optimizer.zero_grad()
    loss_of(model(DATA[1][0]), DATA[1][1]).backward()
    twin, other = copied((model, optimizer))
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        ours.grad = theirs.grad.clone()
    optimizer.step()
    other.step()
    assert_same(twin, model, tolerance=0)
    found, expected = other.metrics(), optimizer.metrics()
    assert {name: (one.images, one.cost) for name, one in found.items()} == {
        name: (one.images, one.cost) for name, one in expected.items()
    }
    train(twin, other, *singly(DATA[2:]))
    train(model, optimizer, *singly(DATA[2:]))
    assert_same(twin, model, tolerance=0)


@pytest.mark.parametrize("copied", COPIES)
def test_metrics_of_a_copy(copied: Callable[..., Any]) -> None:
    model, optimizer = made(cost="macs")
    train(model, optimizer, [DATA[0]])
    _, other = copied((model, optimizer))
    found, expected = other.metrics(), optimizer.metrics()
    assert found.keys() == expected.keys() == {"bn1", "bn2"}
    for name, one in expected.items():
        assert torch.equal(found[name].metric, one.metric)
        assert (found[name].images, found[name].cost) == (one.images, one.cost)


@pytest.mark.parametrize("copied", COPIES)
def test_copies_are_independent(copied: Callable[..., Any]) -> None:
    model, optimizer = made()
    train(model, optimizer, *singly(DATA[:2]))
    twin, other = copied((model, optimizer))
    train(twin, other, *singly(batches(8, 9, seed=2)))
    optimizer.zero_grad()
    loss_of(model(DATA[2][0]), DATA[2][1]).backward()
    twin(DATA[0][0]).sum().backward()
    optimizer.step()
    assert optimizer.metrics()["bn1"].images == 6
    other.remove()
    train(model, optimizer, *singly(DATA[3:]))
    alone, plain = made()
    train(alone, plain, *singly(DATA))
    assert_same(model, alone, tolerance=0)


def test_copy_of_a_removed_one_stays_removed() -> None:
    model, optimizer = made()
    train(model, optimizer, [DATA[0]])
    optimizer.remove()
    twin, other = copy.deepcopy((model, optimizer))
    train(twin, other, *singly(DATA[1:3]))
    train(model, optimizer, *singly(DATA[1:3]))
    assert_same(twin, model, tolerance=0)
    inner = SGD(twin.parameters(), lr=0.1)
    assert DynamicWeightDecay(inner, twin).param_groups[1]["dynamic_weight_decay"] == 3.0


def test_copy_of_the_model_is_wrapped_by_itself() -> None:
    """A copy has no owner, so a new optimizer takes it."""
    model, optimizer = made()
    train(model, optimizer, [DATA[0]])
    twin = copy.deepcopy(model)
    other = DynamicWeightDecay(OPTIMIZERS["SGD"](twin.parameters()), twin, weight_decay=DECAY)
    fresh = tiny_network()
    fresh.load_state_dict(model.state_dict())
    third = DynamicWeightDecay(OPTIMIZERS["SGD"](fresh.parameters()), fresh, weight_decay=DECAY)
    train(twin, other, *singly(DATA[1:]))
    train(fresh, third, *singly(DATA[1:]))
    assert_same(twin, fresh, tolerance=0)


def saved(*parts: Any) -> list[dict[str, Any]]:
    """State dicts as a file gives them to another process."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    states: list[dict[str, Any]] = torch.load(file, weights_only=True)
    return states


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_resuming_from_state_dicts(kind: str, *, named: bool) -> None:
    """3 + 3 steps are 6, bit by bit, in the middle of a schedule and with a coefficient that was changed."""

    def begun() -> tuple[TinyNetwork, DynamicWeightDecay, OneCycleLR]:
        model = tiny_network()
        inner = OPTIMIZERS[kind](model.named_parameters() if named else model.parameters())
        optimizer = DynamicWeightDecay(inner, model, weight_decay=DECAY)
        return model, optimizer, OneCycleLR(optimizer, max_lr=0.1, total_steps=8)

    def run(model: nn.Module, optimizer: DynamicWeightDecay, scheduler: OneCycleLR, data: list[Batch]) -> None:
        for batch in data:
            train(model, optimizer, [batch])
            scheduler.step()

    whole, interrupted = begun(), begun()
    whole[1].param_groups[1]["dynamic_weight_decay"] = interrupted[1].param_groups[1]["dynamic_weight_decay"] = 1.5
    run(*whole, DATA)
    run(*interrupted, DATA[:3])
    states = saved(*interrupted)
    resumed = begun()
    for part, state in zip(resumed, states, strict=True):
        part.load_state_dict(state)
    assert resumed[1].param_groups[1]["dynamic_weight_decay"] == 1.5
    run(*resumed, DATA[3:])
    assert_same(resumed[0], whole[0], tolerance=0)
    for ours, theirs in zip(resumed[0].buffers(), whole[0].buffers(), strict=True):
        assert torch.equal(ours, theirs)
    assert saved(resumed[1])[0]["param_groups"] == saved(whole[1])[0]["param_groups"]


def test_state_dict_of_another_kind() -> None:
    _, optimizer = made()
    model = tiny_network()
    plain = OPTIMIZERS["SGD"](model.parameters())
    with pytest.raises(
        ValueError, match=r"has 1 param groups, of which 0 decay dynamically; this optimizer has 2 .*which 1"
    ):
        optimizer.load_state_dict(plain.state_dict())
    train(model, plain, [DATA[0]])
    with pytest.raises(ValueError, match="load it before wrapping"):
        optimizer.load_state_dict(plain.state_dict())


def test_state_dict_of_a_plain_optimizer_is_loaded_before_wrapping() -> None:
    """Its state stays with its parameters, as they move to another group."""
    model = tiny_network()
    plain = OPTIMIZERS["SGD"](model.parameters())
    train(model, plain, *singly(DATA[:2]))
    twin = tiny_network()
    twin.load_state_dict(model.state_dict())
    inner = OPTIMIZERS["SGD"](twin.parameters())
    inner.load_state_dict(saved(plain)[0])
    optimizers = [DynamicWeightDecay(one, net, weight_decay=DECAY) for one, net in ((plain, model), (inner, twin))]
    momentum, copied = plain.state[model.bn1.weight], inner.state[twin.bn1.weight]
    assert momentum["momentum_buffer"].abs().max() > 0
    assert torch.equal(momentum["momentum_buffer"], copied["momentum_buffer"])
    for one, network in zip(optimizers, (model, twin), strict=True):
        train(network, one, *singly(DATA[2:]))
    assert_same(twin, model, tolerance=0)


def hooks_of(model: nn.Module) -> list[Any]:
    return [
        hook
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
        for hook in hooks.values()
    ]


@pytest.mark.parametrize("steps", [0, 2])
def test_a_copy_of_the_model_has_none_of_the_hooks(steps: int) -> None:
    model, optimizer = made()
    train(model, optimizer, *singly(DATA[:steps]))
    assert hooks_of(model)
    twin = copy.deepcopy(model)
    assert not any(isinstance(hook, OwnedHook) for hook in hooks_of(twin))
    drop_copied_hooks(twin.modules())
    assert hooks_of(twin) == []


@pytest.mark.parametrize("steps", [0, 2])
def test_pruning_leaves_the_hooks_where_they_are(steps: int) -> None:
    """The pruned model has the hooks of others and no more; training of the original goes on to the last bit."""
    model, optimizer = made(activation="function")
    alone, plain = made(activation="function")
    calls: list[Tensor] = []

    def own(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        calls.append(output)
        return 2 * output

    for network in (model, alone):
        network.bn2.register_forward_hook(own)
        with torch.no_grad():
            network.bn1.weight[1] = 0
    train(model, optimizer, *singly(DATA[:steps]))
    train(alone, plain, *singly(DATA[:steps]))
    slim = prune_channels(model, DATA[0][0], ratio=0.25).model
    assert hooks_of(slim) == [own]
    calls.clear()
    slim(DATA[0][0])
    assert len(calls) == 1
    train(model, optimizer, *singly(DATA[steps:]))
    train(alone, plain, *singly(DATA[steps:]))
    assert optimizer.metrics()["bn1"].images == len(DATA[-1][0])
    assert_same(model, alone, tolerance=0)
