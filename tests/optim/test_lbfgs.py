"""LBFGS, which keeps one param group and sees ½·λ·Σ M·γ² in its loss, with M of the step's first evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.optim import LBFGS

from goctconv import DynamicWeightDecay
from reference.decay import DECAY, Batch, PlainTraining, assert_metrics, assert_same, batches, loss_of, tiny_network

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = batches(9, 7, 8)
LR = 0.1


def made(parameters: list[Tensor], line_search: str | None) -> LBFGS:
    return LBFGS(parameters, lr=LR, max_iter=4, history_size=3, line_search_fn=line_search)


def closure_of(optimizer: DynamicWeightDecay, model: torch.nn.Module, batch: Batch) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(batch[0]), batch[1])
        loss.backward()
        return loss

    return closure


def plain_step(training: PlainTraining, batch: Batch, *, penalized: bool) -> tuple[Tensor, int]:
    """Take a step on loss + penalty; return the first loss and the number of evaluations."""
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        training.optimizer.zero_grad()
        loss = training.loss(batch)
        if evaluations == 0:
            training.measure()
        training.seen = {}
        evaluations += 1
        total = loss + training.penalty() if penalized else loss
        total.backward()
        return total

    return training.optimizer.step(closure), evaluations


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_the_penalty_is_in_the_loss(line_search: str | None) -> None:
    model, plain = tiny_network(), tiny_network()
    optimizer = DynamicWeightDecay(made(list(model.parameters()), line_search), model, weight_decay=DECAY)
    training = PlainTraining(plain, made(list(plain.parameters()), line_search))
    assert len(optimizer.param_groups) == 1
    for batch in DATA:
        loss = optimizer.step(closure_of(optimizer, model, batch))
        expected, evaluations = plain_step(training, batch, penalized=True)
        assert evaluations > 2
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
        assert_metrics(optimizer, training.metrics, len(batch[0]), tolerance=1e-9)
        assert_same(model, plain, tolerance=1e-9)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_decoupled(line_search: str | None) -> None:
    model, plain = tiny_network(), tiny_network()
    optimizer = DynamicWeightDecay(made(list(model.parameters()), line_search), model, weight_decay=0.5, decoupled=True)
    training = PlainTraining(plain, made(list(plain.parameters()), line_search))
    for batch in DATA:
        loss = optimizer.step(closure_of(optimizer, model, batch))
        expected, _ = plain_step(training, batch, penalized=False)
        with torch.no_grad():
            for name, metric in training.metrics.items():
                plain.get_submodule(name).weight.mul_(1 - LR * 0.5 * metric)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
        assert_same(model, plain, tolerance=1e-9)


def test_without_closure() -> None:
    model = tiny_network()
    optimizer = DynamicWeightDecay(made(list(model.parameters()), None), model)
    with pytest.raises(TypeError, match=r"call step\(closure\)"):
        optimizer.step()


def test_closure_returns_a_number() -> None:
    """LBFGS takes the float of what a closure returns."""
    results = []
    for convert in (lambda loss: loss, lambda loss: loss.item()):
        model = tiny_network()
        optimizer = DynamicWeightDecay(made(list(model.parameters()), "strong_wolfe"), model, weight_decay=DECAY)
        for batch in DATA[:2]:
            closure = closure_of(optimizer, model, batch)
            optimizer.step(lambda closure=closure, convert=convert: convert(closure()))
        results.append(model)
    assert_same(*results, tolerance=0)
