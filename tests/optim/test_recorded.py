"""Ten training steps of CSNet with dynamic weight decay reproduce those recorded from the authors' implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import goctconv
from goctconv import DynamicWeightDecay
from goctconv.models import CSNet
from goctconv.models.csnet._checkpoint import LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Run(NamedTuple):
    """What ten steps gave."""

    bce: list[float]
    penalty: list[float]
    costly_penalty: float
    gradients: dict[str, Tensor]
    final: dict[str, Tensor]
    logits: Tensor


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "reference/train_dwd_10_steps.npz") as archive:
        return dict(archive)


def network(recorded: dict[str, np.ndarray]) -> CSNet:
    model = goctconv.create_model("csnet_x1")
    assert isinstance(model, CSNet)
    init = {key[5:]: torch.from_numpy(array) for key, array in recorded.items() if key.startswith("init/")}
    model.load_state_dict(LAYOUT.converted(init, model))
    return model.double()


def batches(recorded: dict[str, np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    images = torch.from_numpy(recorded["images_u8"]).permute(0, 3, 1, 2).double()
    masks = torch.from_numpy(recorded["masks_u8"]).double()[:, None]
    yield from zip(((images / 255 - mean) / std).split(4), (masks / 255).split(4), strict=True)


def norms(model: CSNet) -> dict[str, str]:
    """Our names of the BatchNorm parameters, by the authors'."""
    names = {name for name, _ in model.named_parameters()}
    return {place.key: place.name for place in LAYOUT.places(model, {}) if ".bn" in place.key and place.name in names}


@pytest.fixture(scope="module")
def run(recorded: dict[str, np.ndarray]) -> Run:
    model = network(recorded).train()
    adam = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=5e-3)
    optimizer = DynamicWeightDecay(adam, model, weight_decay=3.0, include=model.dynamic_decay_names())
    parameters = dict(model.named_parameters())
    bce, penalties, gradients, costly = [], [], {}, 0.0
    for image, mask in batches(recorded):
        scales = {name: parameters[f"{name}.weight"].detach().clone() for name in model.dynamic_decay_names()}
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(image), mask)
        loss.backward()
        optimizer.step()
        penalty = {name: (one.metric * scales[name] ** 2).sum().item() / 2 for name, one in optimizer.metrics().items()}
        bce.append(loss.item())
        penalties.append(sum(penalty.values()))
        if not gradients:
            gradients = {key: parameters[name].grad.clone() for key, name in norms(model).items()}
            costs = model.dynamic_decay_cost(expand=2)
            costly = sum(costs[name] * value for name, value in penalty.items())
    final = {key: parameters[name].detach() for key, name in norms(model).items()}
    with torch.no_grad():
        logits = model.eval()(next(batches(recorded))[0][:2])
    return Run(bce, penalties, costly, gradients, final, logits)


def difference(actual: Tensor, expected: np.ndarray) -> float:
    assert tuple(actual.shape) == expected.shape
    assert np.isfinite(actual.numpy()).all()
    return float(np.abs(actual.numpy() - expected).max() / np.abs(expected).max())


def test_losses(recorded: dict[str, np.ndarray], run: Run) -> None:
    torch.testing.assert_close(
        torch.tensor(run.bce, dtype=torch.float64), torch.from_numpy(recorded["bce"]), rtol=TOLERANCE, atol=0
    )
    assert len(run.bce) == 10


def test_penalties(recorded: dict[str, np.ndarray], run: Run) -> None:
    ours = torch.tensor(run.penalty, dtype=torch.float64)
    torch.testing.assert_close(ours, torch.from_numpy(recorded["gap_penalty"]), rtol=TOLERANCE, atol=0)


def test_penalty_with_the_published_cost(recorded: dict[str, np.ndarray], run: Run) -> None:
    assert run.costly_penalty == pytest.approx(float(recorded["gap_penalty_cost2_step0"]), rel=TOLERANCE)


def test_the_published_cost_in_the_optimizer(recorded: dict[str, np.ndarray]) -> None:
    """The gradient of γ contains λ·cost·M·γ, and ½·Σ cost·M·γ² is the recorded penalty."""
    image, mask = next(batches(recorded))
    gradients, penalty = [], 0.0
    for cost in (None, 2.0):
        model = network(recorded).train()
        names = model.dynamic_decay_names()
        costs = None if cost is None else model.dynamic_decay_cost(expand=cost)
        scales = {name: model.get_submodule(name).weight.detach().clone() for name in names}
        sgd = torch.optim.SGD(model.parameters(), lr=0.0)
        optimizer = DynamicWeightDecay(sgd, model, weight_decay=3.0, include=names, cost=costs)
        F.binary_cross_entropy_with_logits(model(image), mask).backward()
        optimizer.step()
        gradients.append({name: model.get_submodule(name).weight.grad for name in names})
        found = optimizer.metrics()
        penalty = sum(one.cost * (one.metric * scales[name] ** 2).sum().item() / 2 for name, one in found.items())
    assert penalty == pytest.approx(float(recorded["gap_penalty_cost2_step0"]), rel=TOLERANCE)
    for name, one in found.items():
        expected = gradients[0][name] + 3.0 * (one.cost - 1) * one.metric * scales[name]
        torch.testing.assert_close(gradients[1][name], expected, rtol=TOLERANCE, atol=1e-12)


def test_gradients_of_the_first_step(recorded: dict[str, np.ndarray], run: Run) -> None:
    expected = {key[11:]: array for key, array in recorded.items() if key.startswith("grad_step0/")}
    assert run.gradients.keys() == expected.keys()
    scale = max(np.abs(array).max() for array in expected.values())
    for key, array in expected.items():
        error = np.abs(run.gradients[key].numpy() - array).max()
        assert error <= TOLERANCE * max(np.abs(array).max(), 1e-6 * scale), key


def test_parameters_after_ten_steps(recorded: dict[str, np.ndarray], run: Run) -> None:
    keys = [key for key in run.final if key.endswith(("weight", "bias"))]
    assert len(keys) == len(run.final) == sum(key.startswith("grad_step0/") for key in recorded)
    differences = {key: difference(run.final[key], recorded[f"final/{key}"]) for key in keys}
    assert {key: value for key, value in differences.items() if value > TOLERANCE} == {}


def test_logits_after_ten_steps(recorded: dict[str, np.ndarray], run: Run) -> None:
    assert difference(run.logits, recorded["eval_logits_first2"]) <= TOLERANCE
