"""TrainingConfig: its checks, its texts, and a subclass whose field is in all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

import goctconv
from goctconv._checks import ArgumentError, ArgumentTypeError
from goctconv.options import UNTIL_PRUNED, number, option, options_of, read_toml
from goctconv.training import TrainingConfig, TrainingError
from reference.training import EPOCHS, FINETUNE_EPOCHS, OPTIONS, STEPS, learn, loader, network

LOSS = nn.CrossEntropyLoss()


@dataclass(frozen=True, kw_only=True)
class MoreConfig(TrainingConfig):
    """With a field that no other line of the package knows."""

    temperature: float = option(2.0, "of the softmax", number(above=0))
    late: float = option(1.0, "used after pruning alone", number(above=0), resume=UNTIL_PRUNED)


def small(**options: object) -> MoreConfig:
    return MoreConfig(**{"epochs": 1, "finetune_epochs": 1, "threshold": 0.9999, **options})


def test_a_field_is_an_option_everywhere(tmp_path: Path) -> None:
    config = small(temperature=4.0, checkpoints=tmp_path / "run")
    assert config.changes()["temperature"] == "4"
    assert "temperature = 4.0\nlate = 1.0\n" in config.to_toml()
    (tmp_path / "run.toml").write_text(config.to_toml())
    assert read_toml(tmp_path / "run.toml", options_of(MoreConfig))["temperature"] == 4.0
    with pytest.raises(goctconv.ArgumentError, match="temperature=0 must be a number above 0"):
        small(temperature=0)
    result = goctconv.learn_channels(network(), loader(), LOSS, config)
    assert result.config == config
    state = json.loads((tmp_path / "run" / "00001" / "state.json").read_text())
    assert state["config"]["temperature"] == "4.0"
    with pytest.raises(TrainingError, match=r"other options: temperature=4\.0 there, 2\.0 here"):
        goctconv.learn_channels(network(), loader(), LOSS, replace(config, temperature=2.0), resume=True)


def test_when_an_option_may_change(tmp_path: Path) -> None:
    config = small(checkpoints=tmp_path)
    goctconv.learn_channels(network(), loader(), LOSS, config)
    later = replace(config, late=3.0)
    with pytest.raises(TrainingError, match=r"late=1\.0 there, 3\.0 here"):
        goctconv.learn_channels(network(), loader(), LOSS, later, resume=True)


def test_a_run_goes_on_without_options_that_are_not_of_training(tmp_path: Path) -> None:
    """As one that the command line began, in Python; but not with options that it did not have."""
    options = {"epochs": 1, "finetune_epochs": 1, "threshold": 0.9999, "checkpoints": tmp_path}
    begun = goctconv.learn_channels(network(), loader(), LOSS, MoreConfig(**options))
    plain = goctconv.learn_channels(network(), loader(), LOSS, TrainingConfig(**options), resume=True)
    assert plain.threshold == begun.threshold
    other = TrainingConfig(**options, lr=0.5)
    with pytest.raises(TrainingError, match=r"other options: (?!.*temperature).*lr=0\.0001 there, 0\.5 here") as failed:
        goctconv.learn_channels(network(), loader(), LOSS, other, resume=True)
    assert failed.value.can_resume


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"'epoch' is none of TrainingConfig\(\); did you mean 'epochs'\?"):
        TrainingConfig(epoch=3)  # type: ignore[call-arg]
    with pytest.raises(
        TypeError, match=r"epochs=3 is an option of the config: pass config=TrainingConfig\(epochs=...\)"
    ):
        goctconv.learn_channels(network(), loader(), LOSS, epochs=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="config='fast' must be a TrainingConfig"):
        goctconv.learn_channels(network(), loader(), LOSS, "fast")  # type: ignore[arg-type]


def test_none_may_be_given_by_its_word() -> None:
    config = TrainingConfig(device="auto", amp="none", criterion="auto", threshold="none", finetune_epochs=0)
    assert config == TrainingConfig(threshold=None, finetune_epochs=0)
    assert (config.device, config.amp, config.criterion) == (None, None, None)


@pytest.mark.parametrize("value", [3, 0, None, 1.5])
def test_layers_are_frozen_by_names(value: object) -> None:
    with pytest.raises(goctconv.ArgumentError, match="must be True, False, or names or globs of modules") as failed:
        TrainingConfig(freeze_batch_norm=value)
    assert (failed.value.argument, type(failed.value)) == ("freeze_batch_norm", ArgumentTypeError)


@pytest.mark.parametrize("name", ["freeze_batch_norm", "include"])
def test_selections_of_layers_are_checked(name: str) -> None:
    for value, kind in (([3], TypeError), ([], ValueError), (nn.ReLU, TypeError)):
        with pytest.raises(kind, match=name):
            TrainingConfig(**{name: value})
    assert getattr(TrainingConfig(**{name: iter(["bn1", "bn2"])}), name) == ["bn1", "bn2"]
    assert TrainingConfig(include=None, freeze_batch_norm=True).include is None
    with pytest.raises(TypeError, match="include=3 must be a module's name or glob"):
        TrainingConfig(include=3)


def test_thresholds_of_another_type() -> None:
    for value, kind in ((True, TypeError), ([0.5], TypeError), (-1, ValueError), ("gap", ValueError)):
        with pytest.raises(kind, match="must be a number of at least 0, or 'valley'"):
            TrainingConfig(threshold=value)


def test_a_schedule_by_name() -> None:
    given = learn(network(), loader(), LOSS, **OPTIONS, schedule="cosine")
    assert given.history.series("learning_rate", "train") == pytest.approx([0.05, 0.0375, 0.0125])


def test_a_schedule_that_cools_down() -> None:
    options = {**OPTIONS, "epochs": 4, "threshold": 0}
    given = learn(network(), loader(), LOSS, **options, schedule="cooldown", cooldown=2)
    assert given.history.series("learning_rate", "train") == pytest.approx([0.05, 0.05, 0.05 * 2 / 3, 0.05 / 3])
    assert given.history.series("learning_rate", "finetune") == pytest.approx([0.05 * 2 / 3, 0.05 / 3])


def test_native_kernels_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []

    @contextmanager
    def kernels() -> Iterator[None]:
        entered.append(torch.is_grad_enabled())
        yield

    monkeypatch.setattr("goctconv.training._network.native_kernels", kernels)
    learn(network(), loader(), LOSS, **OPTIONS)
    assert not entered
    learn(network(), loader(), LOSS, **OPTIONS, native=True)
    assert entered == [True] * STEPS * (EPOCHS + FINETUNE_EPOCHS)


def test_without_a_compiler_native_kernels_are_refused_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goctconv.layers.kernels._mode.native_problem", lambda: "no C compiler was found")
    model, seen = network(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    with pytest.raises(ArgumentError, match=r"native=True needs a C compiler: no C compiler was found"):
        learn(model, loader(), LOSS, **OPTIONS, native=True)
    assert not seen
