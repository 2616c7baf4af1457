"""DynamicWeightDecay in every kind of training loop equals the penalty ½·λ·Σ M·γ² in the loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from goctconv import DynamicWeightDecay
from goctconv.optim import StatisticsError
from reference.decay import (
    DECAY,
    PlainTraining,
    assert_metrics,
    assert_same,
    batches,
    groups,
    loss_of,
    seeded,
    singly,
    tiny_network,
    train,
)
from reference.zoo.tiny import CalledTwice, Checkpointed, TinyNetwork

if TYPE_CHECKING:
    from collections.abc import Callable


def wrapped(model: nn.Module, **options: Any) -> DynamicWeightDecay:
    return DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, weight_decay=DECAY, **options)


def test_plain_loop() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model)
    train(model, optimizer, *singly(batches(5, 4, 6)))
    for batch in batches(5, 4, 6):
        plain.step(batch)
    assert_same(model, plain.model)
    assert_metrics(optimizer, plain.metrics, 6)


def test_the_decay_matters() -> None:
    with_decay, without = tiny_network(), tiny_network()
    train(with_decay, wrapped(with_decay), *singly(batches(5)))
    train(without, torch.optim.SGD(without.parameters(), lr=0.1), *singly(batches(5)))
    assert (with_decay.bn1.weight - without.bn1.weight).abs().max() > 0.1
    torch.testing.assert_close(with_decay.bn1.bias, without.bn1.bias, rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [(4, 4), (5, 2), (1, 6, 3)])
def test_gradient_accumulation(sizes: tuple[int, ...]) -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model)
    data = batches(*sizes, *sizes)
    steps = [data[: len(sizes)], data[len(sizes) :]]
    train(model, optimizer, *steps)
    for step in steps:
        plain.step(*step)
    assert_same(model, plain.model)
    assert_metrics(optimizer, plain.metrics, sum(sizes))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("activation", [None, torch.relu, torch.relu_], ids=["module", "function", "in place"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(
    activation: Callable[[Tensor], Tensor] | None, *, use_reentrant: bool, accumulate: int
) -> None:
    model = seeded(lambda: Checkpointed(activation, use_reentrant=use_reentrant))
    plain = PlainTraining(tiny_network())
    optimizer = wrapped(model)
    data = batches(5, 4, 6, 3)
    for index in range(0, 4, accumulate):
        step = data[index : index + accumulate]
        train(model, optimizer, [(images.requires_grad_(), target) for images, target in step])
        plain.step(*step)
        assert_metrics(optimizer, plain.metrics, sum(len(images) for images, _ in step))
    assert_same(model, plain.model)


def test_checkpointing_only_part_of_the_network() -> None:
    class Half(Checkpointed):
        def forward(self, images: Tensor) -> Tensor:
            first = self.activation(self.bn1(self.conv1(images)))
            return self.head(self.again(lambda x: self.bn2(self.conv2(x)), first).mean((2, 3)))

    for use_reentrant in (False, True):
        model, plain = seeded(partial(Half, use_reentrant=use_reentrant)), PlainTraining(tiny_network())
        train(model, wrapped(model), *singly(batches(5, 4, 6)))
        for batch in batches(5, 4, 6):
            plain.step(batch)
        assert_same(model, plain.model)


def test_step_with_closure() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model)
    for images, target in batches(5, 4, 6):

        def closure(images: Tensor = images, target: Tensor = target) -> Tensor:
            optimizer.zero_grad()
            assert torch.is_grad_enabled()
            loss = loss_of(model(images), target)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        expected = plain.loss((images, target))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        plain.seen = {}
        plain.step((images, target))
    assert_same(model, plain.model)
    assert_metrics(optimizer, plain.metrics, 6)


class Twice(torch.optim.SGD):
    """Evaluates the closure twice, and uses the second gradients."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        closure()
        closure()
        return super().step()


@pytest.mark.parametrize("before", [0, 1])
def test_second_evaluation_replaces_the_images_of_the_first(before: int) -> None:
    """What was accumulated before the step stays; it is the closure's own images that are replaced."""
    accumulated, first, second = batches(6, 5, 3)
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = DynamicWeightDecay(Twice(model.parameters(), lr=0.1), model, weight_decay=DECAY)
    todo = iter([first, second])

    def closure() -> Tensor:
        images, target = next(todo)
        optimizer.zero_grad()
        loss = loss_of(model(images), target)
        loss.backward()
        return loss

    for images, target in [accumulated] * before:
        loss_of(model(images), target).backward()
    optimizer.step(closure)
    for batch in [accumulated] * before:
        plain.loss(batch)
    plain.step(second)
    assert_same(model, plain.model)
    assert_metrics(optimizer, plain.metrics, 6 * before + 3)


def test_module_called_several_times() -> None:
    model, plain = seeded(CalledTwice), PlainTraining(seeded(CalledTwice))
    optimizer = wrapped(model)
    train(model, optimizer, *singly(batches(5, 4)))
    for batch in batches(5, 4):
        plain.step(batch)
    assert_same(model, plain.model)
    assert optimizer.metrics()["bn1"].images == 8
    assert optimizer.metrics()["bn2"].images == 4


def test_one_batch_norm_before_two_activations() -> None:
    model = seeded(lambda: CalledTwice(torch.tanh))
    optimizer = wrapped(model)
    for _ in range(2):  # it stays an error
        with pytest.raises(StatisticsError, match=r"'bn1' is called several times.*relu and tanh"):
            model(batches(5)[0][0])
    optimizer.remove()
    assert model(batches(5)[0][0]).shape == (5, 2)


def test_frozen_scale_is_not_touched() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    plain.model.bn1.weight.requires_grad_(False)
    model.bn1.weight.requires_grad_(False)
    before = model.bn1.weight.clone()
    optimizer = wrapped(model)
    with pytest.warns(UserWarning, match=r"γ of 'bn1' has no gradient"):
        train(model, optimizer, *singly(batches(5)))
    train(model, optimizer, *singly(batches(5, 4)[1:]))  # warns once: a second warning is an error
    for batch in batches(5, 4):
        plain.step(batch)
    assert torch.equal(model.bn1.weight, before)
    assert_same(model, plain.model)


def test_batch_norm_in_eval_mode_from_some_step_on() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model)
    train(model, optimizer, *singly(batches(5)))
    plain.step(batches(5)[0])
    model.bn1.eval()
    plain.model.bn1.eval()
    with pytest.warns(UserWarning, match=r"behind 'bn1' .*\(in eval mode: 1\)"):
        train(model, optimizer, *singly(batches(4, seed=2)))
    train(model, optimizer, *singly(batches(6, seed=3)))
    for batch in batches(4, seed=2) + batches(6, seed=3):
        plain.see(batch)
        del plain.seen["bn1"]
        plain.step()
    assert_same(model, plain.model)
    assert_metrics(optimizer, plain.metrics, 6)


def test_passes_in_eval_mode_or_without_gradients_do_not_count() -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model)
    other = batches(9, seed=1)[0][0]
    for index, batch in enumerate(batches(5, 4, 6)):
        with torch.no_grad():
            model(other)
        plain.model(other)
        if index != 1:  # evaluation between accumulation and step, too
            model.eval()(other)
            model.train()
        optimizer.zero_grad()
        loss_of(model(batch[0]), batch[1]).backward()
        model.eval()(other)
        with torch.inference_mode():
            model.train()(other)
        plain.model.train()
        optimizer.step()
        plain.step(batch)
        assert_metrics(optimizer, plain.metrics, len(batch[0]))
    assert_same(model, plain.model)


def test_frozen_backbone_whose_forward_has_no_gradients() -> None:
    """A layer that is never run with gradients is reported once; the others decay."""
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model)

    def half(network: TinyNetwork, images: Tensor) -> Tensor:
        with torch.no_grad():
            first = network.activation(network.bn1(network.conv1(images)))
        return network.bn2(network.conv2(first))

    for index, (images, target) in enumerate(batches(5, 4)):
        optimizer.zero_grad()
        loss_of(model.head(half(model, images).mean((2, 3))), target).backward()
        if index == 0:
            with pytest.warns(UserWarning, match="behind 'bn1'"):
                optimizer.step()
        else:
            optimizer.step()
        second = half(plain.model, images)
        loss_of(plain.model.head(second.mean((2, 3))), target).backward()
        plain.seen = {"bn2": [plain.metric(second.detach())]}
        plain.step()
    assert_same(model, plain.model)


@pytest.mark.parametrize("decoupled", [False, True])
def test_clipping_sees_the_gradients_of_the_loss_alone(*, decoupled: bool) -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = wrapped(model, decoupled=decoupled)
    for images, target in batches(5, 4, 6):
        optimizer.zero_grad()
        loss_of(model(images), target).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        plain.see((images, target))
        expected = nn.utils.clip_grad_norm_(plain.model.parameters(), 0.05)
        torch.testing.assert_close(norm, expected, rtol=1e-12, atol=0)
        assert expected > 0.05
        if decoupled:
            plain.optimizer.step()
            plain.measure()
            with torch.no_grad():
                for name, metric in plain.metrics.items():
                    plain.model.get_submodule(name).weight.mul_(1 - 0.1 * DECAY * metric)
            plain.optimizer.zero_grad()
        else:
            plain.step()
    assert_same(model, plain.model)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_decoupled_decay_follows_the_plain_step(kind: type[torch.optim.Optimizer]) -> None:
    model, plain = tiny_network(), PlainTraining(tiny_network())
    optimizer = DynamicWeightDecay(kind(model.parameters(), lr=0.02), model, weight_decay=DECAY, decoupled=True)
    plain_optimizer = kind(groups(plain.model), lr=0.02)
    for batch in batches(5, 4, 6):
        train(model, optimizer, [batch])
        plain_optimizer.zero_grad()
        plain.see(batch)
        plain_optimizer.step()
        plain.measure()
        with torch.no_grad():
            for name, metric in plain.metrics.items():
                plain.model.get_submodule(name).weight.mul_(1 - 0.02 * DECAY * metric)
    assert_same(model, plain.model)
