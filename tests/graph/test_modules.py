"""Wrapped models, their BatchNorm layers, and what running a model leaves as it was."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from goctconv import ArgumentError
from goctconv.graph import evaluating, is_wrapped, named_batch_norms, select, undisturbed, unwrapped


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sequential(nn.BatchNorm2d(5), nn.Dropout()), nn.BatchNorm2d(5))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: torch.compile(nn.DataParallel(model))])
def test_unwrapped(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network()
    assert unwrapped(wrap(model)) is unwrapped(model) is model
    assert is_wrapped(wrap(model))
    assert not is_wrapped(model)


def test_only_modules_are_unwrapped() -> None:
    with pytest.raises(TypeError, match=r"model='resnet' must be a torch\.nn\.Module"):
        unwrapped("resnet")  # type: ignore[arg-type]


def test_batch_norms_with_a_gamma_once_and_by_plain_names() -> None:
    model = network()
    model.append(nn.BatchNorm2d(5, affine=False)).append(model[2])
    parametrize.register_parametrization(model[1][0], "weight", nn.Identity())
    assert list(named_batch_norms(model)) == ["1.0", "2"]
    assert list(named_batch_norms(torch.compile(model))) == ["1.0", "2"]


def test_choices_are_made_by_name_glob_module_and_function() -> None:
    model = network()
    norms = named_batch_norms(model)
    for selection in ("1", "1.*", model[1], lambda name, _: name.startswith("1"), ["1.0", model[1][0]]):
        assert list(select(model, norms, selection, "include")) == ["1.0"]
    with pytest.raises(ArgumentError, match="include='3' matches no BatchNorm") as caught:
        select(model, norms, "3", "include")
    assert (caught.value.argument, caught.value.value) == ("include", "3")


def test_modes_are_restored_one_by_one() -> None:
    model = network().train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model, "cpu") as same:
        assert same is model
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == before


def test_random_generators_are_left_alone() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002, S311

    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    with undisturbed():
        first = drawn()
    assert drawn() == first
