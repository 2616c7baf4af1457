"""Training without pruning, frozen BatchNorm, optimizers with a slower backbone, schedules."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import goctconv
from goctconv.saliency.data import Batch, EpochBatchSampler, SaliencyDataset, collate
from goctconv.saliency.data._dataset import Dropped
from goctconv.saliency.learning import SaliencyStep
from goctconv.saliency.transforms import Resize, Sample
from goctconv.training import Callback, TrainingError, create_optimizer, create_schedule
from reference.training import OPTIONS, learn, loader, network

LOSS = nn.CrossEntropyLoss()
PLAIN: dict[str, Any] = {**OPTIONS, "weight_decay": 0.0, "threshold": None, "finetune_epochs": 0}


def norm_state(model: nn.Module) -> dict[str, Tensor]:
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {key: one.clone() for key, one in model.state_dict().items() if key.rpartition(".")[0] in norms}


def test_plain_training_is_a_plain_loop() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    expected = [one.detach().clone().requires_grad_() for one in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    x, labels = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    batches = [(x[:3], labels[:3]), (x[3:], labels[3:])]
    adam = torch.optim.AdamW(expected, 1e-2)
    for rate in (1e-2, 1e-3):
        adam.param_groups[0]["lr"] = rate
        for images, target in batches:
            adam.zero_grad()
            LOSS(
                torch.func.functional_call(model, dict(zip(names, expected, strict=True)), (images,)), target
            ).backward()
            adam.step()
    plain = {"epochs": 2, "finetune_epochs": 0, "weight_decay": 0.0, "threshold": None}
    result = learn(
        model,
        batches,
        LOSS,
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
        milestones=0.5,
        **plain,
    )
    assert result.model is model
    assert (result.threshold, result.report.removed, result.plan.removed) == (None, 0, {})
    for one, other in zip(model.parameters(), expected, strict=True):
        assert torch.equal(one, other)


def test_frozen_layers_stay_and_decay_not() -> None:
    model = network()
    before = norm_state(model)
    names = sorted({key.rpartition(".")[0] for key in before})
    frozen, trained = names[:1], names[1:]
    assert trained
    result = learn(model, loader(), LOSS, freeze_batch_norm=frozen, **{**OPTIONS, "threshold": 1.5})
    after = norm_state(result.model)
    for key, one in before.items():
        if key.rpartition(".")[0] in frozen:
            assert torch.equal(after[key], one)
    assert not set(result.plan.removed) & {name for name in frozen if result.plan.removed.get(name)}
    assert result.history.epochs[0].channels == sum(len(before[f"{name}.weight"]) for name in trained)
    assert all(one.requires_grad for one in [*model.parameters(), *result.model.parameters()])


class Stop(Callback):
    def on_epoch_start(self, run: Any) -> None:
        if run.epoch == 2:
            raise KeyboardInterrupt


def test_pruning_cannot_be_switched_on_later(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(network(), loader(), LOSS, checkpoints=tmp_path, callbacks=[Stop()], **PLAIN)
    run = {**PLAIN, "checkpoints": tmp_path, "resume": True}
    with pytest.raises(TrainingError, match=r"threshold=None there, 0.001 here"):
        learn(network(), loader(), LOSS, **{**run, "threshold": 1e-3})
    slower = {**run, "optimizer": lambda model: create_optimizer(model, "sgd", lr=0.1)}
    with pytest.raises(TrainingError, match=r"optimizer="):
        learn(network(), loader(), LOSS, **slower)
    whole = learn(network(), loader(), LOSS, **PLAIN).model.state_dict()
    resumed = learn(network(), loader(), LOSS, **run).model.state_dict()
    assert all(torch.equal(one, resumed[key]) for key, one in whole.items())


def test_groups_of_optimizers() -> None:
    model = goctconv.create_model("test_csf_resnet")
    whole = create_optimizer(model, "adam", lr=0.1, weight_decay=0.5)
    assert [len(group["params"]) for group in whole.param_groups] == [len(list(model.parameters()))]
    made = create_optimizer(model, "adamw", lr=0.1, weight_decay=0.5, backbone_rate=0.01)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[one]: (group["lr"], group["weight_decay"]) for group in made.param_groups for one in group["params"]}
    assert set(found) == set(names.values())
    for parameter, name in names.items():
        rate = 0.001 if name.startswith("backbone.") else 0.1
        assert found[name] == pytest.approx((rate, 0.0 if parameter.dim() == 1 else 0.5))
    assert made.param_groups[0]["lr"] == 0.1
    model.backbone.requires_grad_(requires_grad=False)
    held = [one for group in create_optimizer(model, "sgd").param_groups for one in group["params"]]
    assert [names[one] for one in held] == [name for name in names.values() if not name.startswith("backbone.")]
    with pytest.raises(ValueError, match="name='adamax' must be one of 'adam', 'adamw', 'sgd'"):
        create_optimizer(model, "adamax")
    with pytest.raises(ValueError, match="backbone_rate=0 must be a number above 0"):
        create_optimizer(model, backbone_rate=0)
    with pytest.raises(ValueError, match="Linear has no attribute 'backbone'"):
        create_optimizer(nn.Linear(2, 3), backbone_rate=0.1)


def test_schedules() -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 3).parameters(), 1.0)
    assert sorted(create_schedule(optimizer, 24, milestones=(15 / 24,)).milestones) == [15]  # type: ignore[attr-defined]
    assert create_schedule(optimizer, 24, "cosine").T_max == 24  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="milestones=15 must be a number above 0 and below 1"):
        create_schedule(optimizer, 24, milestones=(15,))


def test_a_summed_loss_is_that_of_all_pixels() -> None:
    model = nn.Conv2d(3, 1, 1).double()
    batch = Batch(torch.rand(2, 3, 5, 7).double(), torch.rand(2, 1, 5, 7).double(), ("a", "b"))
    expected = nn.functional.binary_cross_entropy_with_logits(model(batch.images), batch.masks, reduction="sum") / 2
    torch.testing.assert_close(SaliencyStep("bce", "sum")(model, batch), expected, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="reduction='max' must be one of"):
        SaliencyStep("bce", "max")  # type: ignore[arg-type]


def test_images_of_their_own_size() -> None:
    sampler = EpochBatchSampler(3, 1, sizes=["own"])
    assert {key.size for batch in sampler for key in batch} == {None}
    with pytest.raises(ValueError, match=r"batch_size=2 does not go with size='own': .* accumulate=10"):
        EpochBatchSampler(3, 2, sizes=["own"])
    with pytest.raises(ValueError, match="'own', which goes with no other"):
        EpochBatchSampler(3, 1, sizes=["own", 64])
    with pytest.raises(TypeError, match=r"size='native' must be "):
        SaliencyDataset([None], size="native")  # type: ignore[list-item,arg-type]
    rng = torch.Generator()
    image = torch.zeros(20, 50, 3, dtype=torch.uint8).numpy()
    sample = Sample(image, image[..., 0], None)
    assert Resize()(sample, rng).image.shape == (32, 50, 3)  # type: ignore[arg-type]
    assert collate([Dropped(None, ())]).images.shape == (0, 3, 32, 32)
