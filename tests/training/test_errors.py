"""Bad input is refused before anything is trained, with its value and the cure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from goctconv.training import Callback, ThresholdError, TrainingError
from reference.training import OPTIONS, Pictures, learn, loader, network

LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"model": nn.Conv2d(3, 2, 1)},
            ValueError,
            r"Conv2d.* has no BatchNorm that is trained, .* weight_decay=0, threshold=None and finetune_epochs=0",
        ),
        ({"model": nn.DataParallel(network())}, TypeError, r"DataParallel.* is wrapped already: pass the model inside"),
        ({"model": "resnet"}, TypeError, r"model='resnet' must be a torch.nn.Module"),
        ({"train_loader": []}, ValueError, r"train_loader=\[\] is empty"),
        ({"train_loader": DataLoader(Pictures(3), 4, drop_last=True)}, ValueError, r"and drop_last=True\?"),
        ({"train_loader": iter(loader())}, TypeError, r"gives its batches only once: pass what it iterates over"),
        ({"train_loader": 3}, TypeError, r"train_loader=3 must be a torch.utils.data.DataLoader, or a list of batches"),
        ({"epochs": 0}, ValueError, r"epochs=0 must be an integer of at least 1"),
        ({"epochs": 1.5}, TypeError, r"epochs=1.5 must be an integer"),
        ({"finetune_epochs": -1}, ValueError, r"finetune_epochs=-1 must be an integer of at least 0"),
        ({"accumulate": 0}, ValueError, r"accumulate=0 must be"),
        ({"clip_grad": 0}, ValueError, r"clip_grad=0 must be a number above 0"),
        ({"amp": "half"}, ValueError, r"amp='half' must be one of 'bf16', 'fp16'"),
        ({"finetune_optimizer": "new"}, ValueError, r"must be one of 'transferred', 'fresh'"),
        ({"threshold": "auto"}, ValueError, r"threshold='auto' must be a number of at least 0, or 'valley'"),
        ({"threshold": float("nan")}, ValueError, r"threshold=nan must be"),
        ({"threshold": "valley", "criterion": "l1_filter"}, ValueError, r"criterion='l1_filter' scores something else"),
        ({"channels_last": 1}, TypeError, r"channels_last=1 must be True or False"),
        ({"device": "gpu"}, ValueError, r"device='gpu' must be a device of PyTorch: pass cpu, cuda, cuda:1 or mps"),
        ({"callbacks": Callback()}, TypeError, r"callbacks=.* must be a list of callbacks: put it into a list"),
        ({"callbacks": print}, TypeError, r"callbacks=.* must be a list of callbacks$"),
        ({"callbacks": [Callback]}, TypeError, r"callbacks\[0\]=.* must be a Callback, not a class"),
        ({"validate": 0.5}, TypeError, r"validate=0.5 must be a function of the model"),
        ({"loss_fn": None}, ValueError, r"loss_fn=None and step=None are given, expected one of them"),
        ({"step": lambda model, batch: model(batch)}, ValueError, r"expected one of them"),
        (
            {"loss_fn": nn.CrossEntropyLoss},
            TypeError,
            r"loss_fn=<class .*CrossEntropyLoss'> is a class: make an object of it: CrossEntropyLoss\(\)",
        ),
        ({"loss_fn": "bce"}, TypeError, r"loss_fn='bce' must be a function"),
        ({"optimizer": 0.1}, TypeError, r"optimizer=0.1 must be a torch.optim.Optimizer, or a function of the model"),
        ({"optimizer": lambda _: None}, TypeError, r"gave None, expected a torch.optim.Optimizer"),
        ({"optimizer": torch.optim.LBFGS}, ValueError, r"LBFGS' evaluates the loss of a batch several times"),
        ({"scheduler": lambda o, _: torch.optim.lr_scheduler.ReduceLROnPlateau(o)}, TypeError, r"needs no argument"),
        (
            {"decay_options": {"metrik": "gap"}},
            TypeError,
            r"'metrik' is none of DynamicWeightDecay\(\); did you mean 'metric'",
        ),
        ({"decay_options": {"weight_decay": 1}}, TypeError, r"'weight_decay' is none of DynamicWeightDecay"),
        ({"pruning_options": {"ratio": 0.5}}, TypeError, r"'ratio' is none of prune_channels"),
        ({"pruning_options": "groups"}, TypeError, r"pruning_options='groups' must be a dict"),
        ({"include": "bn*"}, ValueError, r"include='bn\*' matches no BatchNorm"),
        ({"threshold": None}, ValueError, r"threshold=None removes nothing, so finetune_epochs=2 has nothing to do"),
        ({"freeze_batch_norm": True}, ValueError, r"freeze_batch_norm=True .* has no attribute 'backbone'"),
        ({"freeze_batch_norm": "bn*"}, ValueError, r"freeze_batch_norm='bn\*' matches no BatchNorm"),
        ({"freeze_batch_norm": "*"}, ValueError, r"has no BatchNorm that is trained \(all are frozen\)"),
    ],
)
def test_arguments(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"model": network(), "train_loader": loader(), "loss_fn": LOSS, **OPTIONS, **changed}
    with pytest.raises(error, match=message):
        learn(given.pop("model"), given.pop("train_loader"), given.pop("loss_fn"), **given)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": 1, "label": 2}, r"a batch is a dict with the keys 'image', 'label', expected a pair .* pass step="),
        (torch.zeros(2, 3), r"a batch is a Tensor \(2, 3\), expected a pair"),
        ((1, 2, 3), r"a batch is a tuple of 3, expected a pair"),
    ],
)
def test_batches_that_are_no_pairs(batch: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        learn(network(), [batch], LOSS, **OPTIONS)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda model, batch: model(batch[0]), r"the loss is a tensor \(4, 2\), expected a tensor with one number"),
        (lambda _model, _batch: 0.5, r"the loss is 0.5, expected"),
        (lambda model, batch: model(batch[0]).detach().mean(), r"does not depend on the model's parameters"),
    ],
)
def test_losses_that_are_none(step: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=f"{message}.*; there is no checkpoint to go on from"):
        learn(network(), loader(), step=step, **OPTIONS)


def test_a_loader_that_gives_nothing_though_it_says_nothing() -> None:
    class Nothing(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(TrainingError, match="phase train, epoch 1 of 5: train_loader gave no batch"):
        learn(network(), torch.utils.data.DataLoader(Nothing()), LOSS, **OPTIONS)


def test_validation_that_is_no_number() -> None:
    with pytest.raises(TypeError, match="validate returned None, expected a number or numbers by name"):
        learn(network(), loader(), LOSS, validate=lambda _: None, **OPTIONS)  # type: ignore[arg-type,return-value]


def test_no_gap_leaves_a_trained_model(tmp_path: Any) -> None:
    options = {**OPTIONS, "threshold": "valley", "epochs": 1}
    with pytest.raises(ThresholdError, match=r"no valley .*the model that you passed is trained; prune it with"):
        learn(network(), loader(), LOSS, **options)
    with pytest.raises(ThresholdError, match=r"go on from .*00001 with resume=True and a number as threshold"):
        learn(network(), loader(), LOSS, checkpoints=tmp_path, **options)
    options["threshold"] = 0.9
    result = learn(network(), loader(), LOSS, checkpoints=tmp_path, resume=True, **options)
    assert result.report.removed > 0


def test_a_failed_run_leaves_no_hooks() -> None:
    model = network()
    with pytest.raises(TrainingError):
        learn(model, [(torch.full((2, 3, 7, 5), float("nan")), torch.tensor([0, 1]))], LOSS, **OPTIONS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
