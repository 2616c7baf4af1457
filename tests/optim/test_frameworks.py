"""Lightning and Accelerate, which wrap the optimizer or its closure, train as the plain loop does."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from goctconv import DynamicWeightDecay
from reference.decay import (
    DECAY,
    PlainTraining,
    assert_metrics,
    assert_same,
    batches,
    groups,
    loss_of,
    tiny_network,
)
from reference.zoo.tiny import TinyNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATA = batches(5, 4, 6, 3, 5, 4)
ACCUMULATED = [DATA[0:2], DATA[2:4], DATA[4:6]]
CLIP = 0.05


def plainly(
    steps: list[Any], *, clip: float | None = None, decoupled: bool = False, share: int = 1, epochs: int = 1
) -> PlainTraining:
    """Train without a framework: losses are divided by the number of micro-batches, as the frameworks do."""
    model = tiny_network()
    training = PlainTraining(model, SGD(groups(model), lr=0.1, momentum=0.9))
    scheduler = StepLR(training.optimizer, 2, 0.5)
    for step in steps * epochs:
        for batch in step:
            (training.loss(batch) / share).backward()
        if clip is not None:
            assert nn.utils.clip_grad_norm_(model.parameters(), clip) > clip
        if decoupled:
            training.measure()
            training.optimizer.step()
            with torch.no_grad():
                for group, name in ((training.optimizer.param_groups[1], name) for name in training.metrics):
                    model.get_submodule(name).weight.mul_(1 - group["lr"] * DECAY * training.metrics[name])
            training.optimizer.zero_grad()
        else:
            training.step()
        scheduler.step()
    return training


def wrapped(model: nn.Module, **options: Any) -> DynamicWeightDecay:
    return DynamicWeightDecay(SGD(model.parameters(), lr=0.1, momentum=0.9), model, weight_decay=DECAY, **options)


# Lightning


def lightning_module(inside: TinyNetwork, *, manual: bool = False, **options: Any) -> Any:
    """A LightningModule around a network; its `optimizer` is what `configure_optimizers` made."""
    lightning = importlib.import_module("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inside = inside
            self.automatic_optimization = not manual
            self.made: list[DynamicWeightDecay] = []

        def configure_optimizers(self) -> Any:
            inner = SGD(self.parameters(), lr=0.1, momentum=0.9)
            self.made = [DynamicWeightDecay(inner, self, weight_decay=DECAY, **options)]
            scheduler = {"scheduler": StepLR(self.made[0], 2, 0.5), "interval": "step"}
            return {"optimizer": self.made[0], "lr_scheduler": scheduler}

        def training_step(self, batch: Any, _: int) -> Tensor:
            if not manual:
                return loss_of(self.inside(batch[0]), batch[1])
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = loss_of(self.inside(batch[0]), batch[1])
            self.manual_backward(loss)
            optimizer.step()
            self.lr_schedulers().step()
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.inside(batch[0])

    return Module()


def fit(module: Any, *, epochs: int = 1, checkpoint: Path | None = None, **options: Any) -> Any:
    lightning = importlib.import_module("lightning")
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    loader = torch.utils.data.DataLoader(DATA, batch_size=None)
    trainer.fit(module, loader, loader, ckpt_path=checkpoint, weights_only=True)
    return trainer


def of_lightning(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test where Lightning is not installed, and mute a warning about how it walks through batches."""
    test = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")(test)
    is_missing = importlib.util.find_spec("lightning") is None
    return pytest.mark.skipif(is_missing, reason="lightning is not installed")(test)


@of_lightning
@pytest.mark.parametrize("decoupled", [False, True])
def test_lightning(*, decoupled: bool) -> None:
    module = lightning_module(tiny_network(), decoupled=decoupled)
    fit(module, epochs=2)
    plain = plainly([[batch] for batch in DATA], decoupled=decoupled, epochs=2)
    assert_same(module.inside, plain.model)
    named = {f"inside.{name}": metric for name, metric in plain.metrics.items()}
    assert_metrics(module.made[0], named, 4)


@of_lightning
def test_lightning_accumulates_and_clips() -> None:
    module = lightning_module(tiny_network())
    fit(module, accumulate_grad_batches=2, gradient_clip_val=CLIP)
    plain = plainly(ACCUMULATED, clip=CLIP, share=2)
    assert_same(module.inside, plain.model)
    assert_metrics(module.made[0], {f"inside.{name}": metric for name, metric in plain.metrics.items()}, 9)


@of_lightning
def test_lightning_with_manual_optimization() -> None:
    module = lightning_module(tiny_network(), manual=True)
    fit(module)
    assert_same(module.inside, plainly([[batch] for batch in DATA]).model)


@of_lightning
def test_lightning_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    first = lightning_module(tiny_network())
    fit(first).save_checkpoint(tmp_path / "first.ckpt")
    module = lightning_module(tiny_network())
    fit(module, epochs=2, checkpoint=tmp_path / "first.ckpt")
    assert_same(module.inside, plainly([[batch] for batch in DATA], epochs=2).model)


# Accelerate


@pytest.fixture
def accelerate() -> Iterator[Any]:
    """The package; what it keeps in classes is forgotten afterwards."""
    package = pytest.importorskip("accelerate")
    state = importlib.import_module("accelerate.state")
    yield package
    state.AcceleratorState._reset_state(reset_partial_state=True)
    state.GradientState._reset_state()


@pytest.mark.parametrize("before", [False, True])
def test_accelerate(accelerate: Any, *, before: bool) -> None:
    """Accumulation, clipping and a scheduler; the model is prepared with the optimizer, or before it is wrapped."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, step_scheduler_with_optimizer=True)
    network = tiny_network()
    loader = torch.utils.data.DataLoader(DATA, batch_size=None)
    if before:
        model = accelerator.prepare(network)
        wrapper = wrapped(model)
        optimizer, loader, scheduler = accelerator.prepare(wrapper, loader, StepLR(wrapper, 2, 0.5))
    else:
        wrapper = wrapped(network)
        model, optimizer, loader, scheduler = accelerator.prepare(network, wrapper, loader, StepLR(wrapper, 2, 0.5))
    for images, target in loader:
        with accelerator.accumulate(model):
            accelerator.backward(loss_of(model(images), target))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    plain = plainly(ACCUMULATED, clip=CLIP, share=2)
    assert_same(accelerator.unwrap_model(model), plain.model)
    assert_metrics(wrapper, plain.metrics, 9)


def test_accelerate_resumes(accelerate: Any, tmp_path: Path) -> None:
    networks = []
    for data in (DATA, DATA[3:]):
        accelerator = accelerate.Accelerator(cpu=True)
        network = tiny_network()
        wrapper = DynamicWeightDecay(Adam(network.parameters(), lr=0.02), network, weight_decay=DECAY)
        model, optimizer = accelerator.prepare(network, wrapper)
        if networks:
            accelerator.load_state(tmp_path)
        for index, (images, target) in enumerate(data):
            optimizer.zero_grad()
            accelerator.backward(loss_of(model(images), target))
            optimizer.step()
            if not networks and index == 2:
                accelerator.save_state(tmp_path)
        networks.append(network)
    assert_same(*networks, tolerance=0)
