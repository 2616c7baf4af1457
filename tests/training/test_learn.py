"""Algorithm 1 equals a loop that is written out, and does what its options say."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, NamedTuple

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader

import goctconv
from goctconv import DynamicWeightDecay, prune_channels
from goctconv.models import CSNet
from goctconv.training import Callback, TrainingConfig, TrainingError, create_optimizer, create_schedule
from reference.training import (
    BATCH,
    EPOCHS,
    FINETUNE_EPOCHS,
    OPTIONS,
    Pictures,
    check_equal,
    learn,
    loader,
    network,
    state_of,
)

LOSS = nn.CrossEntropyLoss()


def fixed_batches(dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    data = Pictures(dtype=dtype)
    return list(zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True))


def plainly(model: nn.Module, batches: list[tuple[Tensor, Tensor]], threshold: float, *, fresh: bool) -> nn.Module:
    """Algorithm 1 written out: no rooms, no options."""

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        schedule = create_schedule(optimizer, epochs)
        for _ in range(epochs):
            for images, labels in batches:
                optimizer.zero_grad()
                LOSS(model.train()(images), labels).backward()
                optimizer.step()
            schedule.step()

    inner = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-3)
    optimizer = DynamicWeightDecay(inner, model)
    train(model, optimizer, EPOCHS)
    result = prune_channels(model, torch.zeros(1, 3, 7, 5), threshold=threshold)
    moved: Any = result.transfer_optimizer(optimizer)
    moved.remove()
    if fresh:
        moved.state.clear()
    for group in moved.param_groups:
        group["lr"] = group.pop("initial_lr")
    train(result.model, moved.optimizer, FINETUNE_EPOCHS)
    return result.model


@pytest.mark.parametrize("fresh", [False, True])
def test_it_equals_a_plain_loop(fresh: bool) -> None:
    result = learn(network(0), fixed_batches(), LOSS, **OPTIONS, finetune_optimizer="fresh" if fresh else "transferred")
    assert 0 < result.report.removed < result.report.masked <= 24
    assert result.report.channels == 24
    alone = prune_channels(network(0), torch.zeros(1, *fixed_batches()[0][0].shape[1:]), threshold=0.0)
    assert result.report.macs[0] == alone.report.macs[0]  # counted for one image, whatever the batch
    assert not result.model.training
    check_equal(state_of(result.model), state_of(plainly(network(0), fixed_batches(), 0.06, fresh=fresh)))


@pytest.mark.parametrize("kind", ["transferred", "fresh"])
def test_an_optimizer_around_another_is_used_for_finetuning(kind: str) -> None:
    options = {**OPTIONS, "epochs": 1, "finetune_epochs": 1, "threshold": 0.98, "finetune_optimizer": kind}
    options["optimizer"] = lambda model: create_optimizer_v2(model, "lookahead_adam", lr=0.01)
    result = learn(network(0), fixed_batches(), LOSS, **options)
    assert result.report.removed
    assert [epoch.phase for epoch in result.history.epochs] == ["train", "finetune"]


def test_published_defaults() -> None:
    config = TrainingConfig()
    optimizer = create_optimizer(
        network(), config.optimizer, lr=config.lr, betas=config.betas, weight_decay=config.ordinary_weight_decay
    )
    assert {key: optimizer.defaults[key] for key in ("lr", "betas", "weight_decay")} == {
        "lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 5e-3,
    }  # fmt: skip
    assert sorted(create_schedule(optimizer, 300).milestones.elements()) == [200, 250]  # type: ignore[attr-defined]
    assert sorted(create_schedule(optimizer, 1).milestones.elements()) == [1, 1]  # type: ignore[attr-defined]


def test_learning_rates_of_both_phases() -> None:
    options = {**OPTIONS, "epochs": 6, "finetune_epochs": 3, "finetune_factor": 0.5, "threshold": 0.003}
    history = learn(network(), loader(), LOSS, **options).history
    expected = [0.05] * 4 + [0.005, 0.0005] + [0.025] * 2 + [0.0025]
    assert history.series("learning_rate") == pytest.approx(expected)


def test_only_the_first_phase_decays_dynamically() -> None:
    class Watch(Callback):
        def on_step_end(self, run: Any, _record: Any) -> None:
            hooked = any(module._forward_hooks or module._forward_pre_hooks for module in run.model.modules())
            seen.append((run.phase, hooked))

    seen: list[tuple[str, bool]] = []
    model = network()
    learn(model, loader(), LOSS, callbacks=[Watch()], **OPTIONS)
    assert set(seen) == {("train", True), ("finetune", False)}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nothing_fades_and_a_warning_says_so() -> None:
    with pytest.warns(UserWarning, match=r"threshold=1e-20 removed nothing, as no γ .* a larger gamma_rate"):
        result = learn(network(), loader(), LOSS, epochs=1, finetune_epochs=1)
    assert (result.report.removed, result.threshold) == (0, 1e-20)
    with pytest.warns(UserWarning, match=r"threshold=1e-09 .* \(the smallest is .*\): with weight_decay=0 no γ fades"):
        learn(network(), loader(), LOSS, epochs=1, finetune_epochs=1, weight_decay=0.0, threshold=1e-9)
    model = network()
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    kept = {"keep": norms}
    with pytest.warns(UserWarning, match=r"those below it are of layers that are frozen or kept"):
        learn(model, loader(), LOSS, epochs=1, finetune_epochs=1, threshold=10.0, pruning_options=kept)


def test_only_pruning() -> None:
    model = network()
    result = learn(model, loader(), LOSS, **{**OPTIONS, "finetune_epochs": 0}, keep_unpruned=True)
    assert len(result.history.epochs) == EPOCHS
    assert result.unpruned is not None
    check_equal(result.unpruned, state_of(model))
    images = torch.rand(2, 3, 9, 6)
    masked = result.plan.mask(copy.deepcopy(model).eval())
    torch.testing.assert_close(result.model(images), masked(images), rtol=1e-5, atol=1e-6)


def test_csnet_decays_the_published_layers_and_is_pruned_by_chains() -> None:
    model = CSNet(base_width=10, depths=(1, 1, 1, 1, 1))

    class Watch(Callback):
        def on_epoch_end(self, _run: Any, record: Any) -> None:
            counts.append(record.channels)

    counts: list[int] = []
    decayed = set(model.dynamic_decay_names())
    expected = sum(m.num_features for n, m in model.named_modules() if n in decayed and isinstance(m, nn.BatchNorm2d))
    batches = [(torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32))] * 2
    loss = nn.BCEWithLogitsLoss()
    run = {"epochs": 1, "finetune_epochs": 0, "threshold": 0.99985, "pruning_options": {"verify": False}}
    result = learn(model, batches, loss, **run, callbacks=[Watch()])
    assert counts == [expected]
    firsts = [name for name in decayed if ".norm1." in name]
    for name in firsts:  # where the first layer of a block has a γ above the threshold, all three keep the channel
        scale = model.get_submodule(name).weight.detach().abs()  # type: ignore[union-attr]
        assert result.plan.masked.get(name, []) == torch.nonzero(scale < 0.99985)[:, 0].tolist()
        for follower in (name.replace("norm1", "norm2"), name.replace("norm1", "norm3")):
            assert result.plan.masked.get(follower, []) == result.plan.masked.get(name, [])
    counts.clear()
    learn(CSNet(base_width=10, depths=(1, 1, 1, 1, 1)), batches, loss, **run, include="*", callbacks=[Watch()])
    assert counts[0] > expected


@pytest.mark.parametrize("give", ["function", "class", "optimizer"])
def test_optimizers_are_given_in_three_ways(give: str) -> None:
    model = network()
    options = {**OPTIONS, "threshold": 0.1}
    if give == "class":
        options["optimizer"] = torch.optim.Adam
    elif give == "function":
        options["optimizer"] = lambda model: torch.optim.Adam(model.parameters())
    else:
        options["optimizer"] = torch.optim.Adam(model.parameters())
    expected = learn(network(), loader(), LOSS, **{**OPTIONS, "threshold": 0.1, "optimizer": torch.optim.Adam})
    check_equal(state_of(learn(model, loader(), LOSS, **options).model), state_of(expected.model))


pytestmark = pytest.mark.filterwarnings("ignore:.*removed nothing")  # where fading is not the point


class Pair(NamedTuple):
    images: Tensor
    labels: Tensor
    names: list[str]


@dataclasses.dataclass
class Batch:
    images: Tensor
    labels: Tensor
    names: list[str]


@pytest.mark.parametrize("kind", ["tuple", "list", "arguments", "keywords", "dict", "named tuple", "dataclass"])
def test_batches_of_any_kind(kind: str) -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        if kind == "dict":
            return LOSS(model(input=batch["images"]), batch["labels"])
        return LOSS(model(batch.images), batch.labels)

    make: dict[str, Any] = {
        "tuple": lambda x, y: (x, y),
        "list": lambda x, y: [x, y],
        "arguments": lambda x, y: ((x,), y),
        "keywords": lambda x, y: ({"input": x}, y),
        "dict": lambda x, y: {"images": x, "labels": y, "names": ["a"]},
        "named tuple": lambda x, y: Pair(x, y, ["a"]),
        "dataclass": lambda x, y: Batch(x, y, ["a"]),
    }
    batches = [make[kind](*batch) for batch in fixed_batches()]
    function = {"step": step} if kind in {"dict", "named tuple", "dataclass"} else {"loss_fn": LOSS}
    result = learn(network(0), batches, **function, **OPTIONS, channels_last=True)
    expected = learn(network(0), fixed_batches(), LOSS, **OPTIONS, channels_last=True)
    check_equal(state_of(result.model), state_of(expected.model))
    assert result.history.series("images") == [13] * (EPOCHS + FINETUNE_EPOCHS)


def test_accumulation_takes_the_mean_of_the_gradients() -> None:
    """The last step of an epoch has one batch only: 4 batches, 3 a step."""
    options = {**OPTIONS, "epochs": 1, "finetune_epochs": 0, "schedule": "constant", "clip_grad": 0.2}
    model = network(0)
    learn(model, fixed_batches(), LOSS, accumulate=3, **options)
    plain = network(0).train()
    optimizer = DynamicWeightDecay(torch.optim.SGD(plain.parameters(), 0.05, momentum=0.9, weight_decay=5e-3), plain)
    batches = fixed_batches()
    for group in (batches[:3], batches[3:]):
        optimizer.zero_grad()
        for images, labels in group:
            (LOSS(plain(images), labels) / len(group)).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.2)
        optimizer.step()
    check_equal(state_of(model), state_of(plain))


@pytest.mark.parametrize(
    "options",
    [
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"channels_last": True},
        pytest.param({"compile": "aot_eager"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_faster_ways_learn_about_the_same(options: dict[str, Any]) -> None:
    expected = learn(network(0), fixed_batches(), LOSS, **OPTIONS)
    result = learn(network(0), fixed_batches(), LOSS, **OPTIONS, **options)
    losses = result.history.series("loss", "train")
    assert losses == pytest.approx(expected.history.series("loss", "train"), rel=0.03)
    assert [epoch.channels for epoch in result.history.epochs[:EPOCHS]] == [24] * EPOCHS
    assert result.report.removed > 0
    assert all(parameter.dtype == torch.float32 for parameter in result.model.parameters())


def test_data_order_depends_on_seed_and_epoch_alone() -> None:
    def orders(seed: int, **options: Any) -> list[Tensor]:
        seen: list[Tensor] = []

        def step(model: nn.Module, batch: Any) -> Tensor:
            if model.training and torch.is_grad_enabled():
                seen.append(batch[0].mean((1, 2, 3)))
            return LOSS(model(batch[0]), batch[1])

        torch.manual_seed(len(options))  # which must not matter
        run = {**OPTIONS, "epochs": 2, "finetune_epochs": 1, "threshold": 0.3, "seed": seed, **options}
        learn(network(), loader(generator=torch.Generator()), step=step, **run)
        return seen

    noisy = {"validate": lambda model: float(torch.rand(()) + sum(p.sum() for p in model.parameters()))}
    first, second, other = orders(0), orders(0, **noisy), orders(1)
    assert len(first) >= 12
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[4])


def test_set_epoch_is_called_wherever_it_is() -> None:
    class Told(Pictures):
        def set_epoch(self, epoch: int) -> None:
            told.append(("data set", epoch))

    class Sampler(torch.utils.data.SequentialSampler):
        def set_epoch(self, epoch: int) -> None:
            told.append(("sampler", epoch))

    told: list[tuple[str, int]] = []
    data = Told()
    options = {
        **OPTIONS,
        "epochs": 1,
        "finetune_epochs": 1,
        "threshold": 0.5,
        "example_inputs": torch.zeros(1, 3, 7, 5),
    }
    learn(network(), DataLoader(data, BATCH, sampler=Sampler(data)), LOSS, **options)
    assert sorted(told) == [("data set", 0), ("data set", 1), ("sampler", 0), ("sampler", 1)]


def test_random_numbers_of_others_go_on_as_before() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    learn(network(), loader(), LOSS, **OPTIONS)
    assert torch.equal(torch.rand(3), expected)


def test_validation_sees_the_model_in_eval_mode() -> None:
    def validate(model: nn.Module) -> dict[str, float]:
        seen.append((model.training, torch.is_grad_enabled()))
        return {"width": model[0].out_channels}  # type: ignore[index,union-attr,dict-item,return-value]

    seen: list[tuple[bool, bool]] = []
    result = learn(network(), loader(), LOSS, validate=validate, **OPTIONS)
    assert set(seen) == {(False, False)}
    widths = result.history.series("width")
    assert widths[:EPOCHS] == [13] * EPOCHS
    assert widths[EPOCHS:] == [result.model[0].out_channels] * FINETUNE_EPOCHS  # type: ignore[index,union-attr]


def test_the_name_in_the_package() -> None:
    assert goctconv.learn_channels is goctconv.training.learn_channels
    assert issubclass(TrainingError, RuntimeError)
