"""What a short run is told, the learning rate and β2 of γ, and thresholds chosen for a share that stays."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goctconv import prune_channels
from goctconv.training import Callback, TrainingConfig, TrainingResult
from goctconv.training._network import decayed
from goctconv.training._reach import warn_unreachable
from reference.training import OPTIONS, learn, loader, network, state_of

LOSS = nn.CrossEntropyLoss()
SHORT: dict[str, Any] = {"epochs": 3, "finetune_epochs": 0, "lr": 1e-3, "threshold": 1e-2}


def warned(*, steps: int | None = 100, start: float = 1.0, decoupled: bool = False, **options: Any) -> str:
    """Return what a run is told before it begins."""
    config = TrainingConfig(**{**SHORT, **options})
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    nn.init.constant_(model[1].weight, start)  # type: ignore[arg-type]
    if decoupled:
        config = replace(config, decay_options={"decoupled": True})
    decay = decayed(config.make_optimizer(model), model, model, config)
    before = [{**group, "params": None} for group in decay.param_groups]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_unreachable(decay, config.make_scheduler, config, steps)
    assert [{**group, "params": None} for group in decay.param_groups] == before
    decay.remove()
    return "".join(str(warning.message) for warning in caught)


def test_a_run_that_is_too_short_is_told_what_helps() -> None:
    told = warned()
    assert "in 300 steps the decay alone takes them from 1 to 0.8: pass epochs=30 or gamma_rate=10" in told
    assert warned(epochs=30) == warned(gamma_rate=10.0) == ""
    assert "pass epochs=12 or gamma_rate=9" in warned(gamma_rate=3.0)


def test_a_larger_threshold_is_named_where_it_would_do() -> None:
    options = {"schedule": "constant", "lr": 5e-3, "threshold": 1e-20}
    assert "takes them from 1 to 0.06: pass epochs=12 or threshold=0.1" in warned(**options)
    assert warned(**{**options, "threshold": 0.1}) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.0},
        {"threshold": "valley"},
        {"threshold": 0.0},
        {"target_macs": 0.5, "threshold": "valley"},
        {"start": 1e-3},
        {"steps": None},
        {"decay_options": {"cost": "macs"}},
        {"epochs": 300, "steps": 1000, "lr": 1e-6},  # too long to be looked at
    ],
    ids=str,
)
def test_others_are_told_nothing(options: dict[str, Any]) -> None:
    assert warned(**options) == ""


def test_each_optimizer_fades_in_its_own_way() -> None:
    assert "takes them from 1 to 0.5" in warned(optimizer="sgd", lr=1e-4)
    assert warned(optimizer="sgd") == ""
    assert "takes them from 1 to 0.5" in warned(optimizer="adamw", decoupled=True)  # (1 - 3e-3)**200, and a little more
    assert warned(optimizer="adamw", decoupled=True, lr=2e-2) == ""


def test_a_run_warns_once_and_not_where_it_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {**OPTIONS, "optimizer": "adam", "epochs": 1, "checkpoints": tmp_path}
    del options["finetune_epochs"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learn(network(), loader(), LOSS, **options, finetune_epochs=0)
        learn(network(), loader(), LOSS, **options, finetune_epochs=1, resume=True)
    assert sum("expected to reach" in str(warning.message) for warning in caught) == 1


class Groups(Callback):
    """Notes the learning rates and β of the param groups."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[str, float, float]]] = []
        self.optimizer: Any = None

    def make(self, model: nn.Module) -> Any:
        self.optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.99))
        return self.optimizer


def test_gamma_learn_at_their_own_rate_and_beta2_while_they_decay() -> None:
    class Watch(Groups):
        def on_step_end(self, run: Any, _record: Any) -> None:
            groups = self.optimizer.param_groups if run.phase == "train" else []
            self.seen.append([(group["lr"], group["betas"][1]) for group in groups])

    watch, options = Watch(), {**OPTIONS, "epochs": 2, "schedule": "constant", "threshold": 0.9999}
    own = {"gamma_rate": 4.0, "gamma_beta2": 0.8, "finetune_factor": 0.5}
    result = learn(network(), loader(), LOSS, callbacks=[watch], **{**options, "optimizer": watch.make}, **own)
    assert watch.seen[0] == [(1e-3, 0.99), (4e-3, 0.8)]
    assert result.history.series("learning_rate") == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    plain = learn(network(), loader(), LOSS, **{**options, "optimizer": watch.make})
    assert not torch.equal(state_of(plain.model)["0.weight"], state_of(result.model)["0.weight"])


def test_gamma_rate_is_undone_for_fine_tuning(tmp_path: Path) -> None:
    """What is fine-tuned has one rate and one β2 again, also where the run goes on from the checkpoint before."""
    made = Groups()
    rates: list[set[tuple[float, float]]] = []

    class Watch(Callback):
        def on_step_end(self, run: Any, _record: Any) -> None:
            if run.phase == "finetune":
                groups = schedules[-1].optimizer.param_groups
                rates.append({(group["lr"], group["betas"][1]) for group in groups})

    schedules: list[Any] = []

    def schedule(optimizer: Any, epochs: int) -> Any:
        schedules.append(torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, epochs))
        return schedules[-1]

    options: dict[str, Any] = {
        **OPTIONS, "epochs": 2, "finetune_epochs": 1, "optimizer": made.make, "scheduler": schedule,
        "threshold": 0.9999, "gamma_rate": 4.0, "gamma_beta2": 0.8, "checkpoints": tmp_path,
    }  # fmt: skip
    first = learn(network(), loader(), LOSS, callbacks=[Watch()], **options)
    again = learn(network(), loader(), LOSS, callbacks=[Watch()], **{**options, "finetune_epochs": 2}, resume=True)
    assert rates
    assert set.union(*rates) == {(1e-3, 0.99)}
    assert len(again.history.epochs) == len(first.history.epochs) + 1


@pytest.mark.parametrize(("name", "index"), [("target_parameters", "parameters"), ("target_macs", "macs")])
def test_the_threshold_is_the_smallest_that_meets_a_target(name: str, index: str) -> None:
    model = network()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.linspace(0.5, 1.5, len(module.weight)))
    options = {**OPTIONS, "epochs": 1, "finetune_epochs": 0, "keep_unpruned": True}
    del options["threshold"]
    result: TrainingResult = learn(model, loader(), LOSS, **options, **{name: 0.6})

    def left(threshold: float) -> float:
        model.load_state_dict(result.unpruned or {})
        report = prune_channels(model, example(), threshold=threshold).report
        before, after = getattr(report, index)
        return float(after / before)

    assert left(result.threshold or 0.0) <= 0.6
    below = max(float(value) for value in gammas_of(result.unpruned) if value < (result.threshold or 0.0))
    assert left(below) > 0.6  # which masks one channel fewer


def example() -> Tensor:
    return torch.zeros(1, 3, 7, 5)


def gammas_of(state: dict[str, Tensor] | None) -> Tensor:
    named = [(name, module) for name, module in network().named_modules() if isinstance(module, nn.BatchNorm2d)]
    return torch.cat([(state or {})[f"{name}.weight"].abs() for name, _ in named])


def test_a_target_that_cannot_be_met_says_how_little_can_stay() -> None:
    options = {**OPTIONS, "epochs": 1, "finetune_epochs": 0}
    del options["threshold"]
    with pytest.raises(ValueError, match=r"% of the parameters stay at least, and target_parameters=0.001 is asked"):
        learn(network(), loader(), LOSS, **options, target_parameters=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_parameters": 0.5, "target_macs": 0.5}, r"target_parameters=0.5 chooses .*target_macs=0.5"),
        ({"target_macs": 0.5, "threshold": 1e-3}, "target_macs=0.5 chooses the threshold, and so does threshold=0.001"),
        ({"target_macs": 0.5, "threshold": None, "finetune_epochs": 0}, "target_macs=0.5 is to remove channels"),
        ({"target_macs": 0.5, "criterion": "l1_filter"}, "target_macs=0.5 chooses a threshold of γ"),
        ({"target_macs": 1.0}, "target_macs=1"),
        ({"gamma_rate": 0.0}, "gamma_rate=0"),
        ({"gamma_beta2": 0.9, "optimizer": "sgd"}, r"gamma_beta2=0.9 is for adam and adamw"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**options)


def test_beta2_of_another_optimizer() -> None:
    with pytest.raises(ValueError, match=r"gamma_beta2=0\.9 is β2 of Adam, and SGD has none"):
        learn(network(), loader(), LOSS, **OPTIONS, gamma_beta2=0.9)
