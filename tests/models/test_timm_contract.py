"""What timm asks of its own models, restated for every registered one; BatchNorm is calibrated first.

Of timm's checks only TorchScript's `torch.jit.script` has no counterpart here: PyTorch has deprecated it, and it cannot
compile features that are a tensor in one layer and a tuple in another. `torch.jit.trace` is checked in its place.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import FeatureInfo, GraphExtractNet, get_graph_node_names, group_parameters
from torch import Tensor, nn
from torch.testing import assert_close

import goctconv
from reference.conditioning import calibrated

CSNETS = [name for name in goctconv.list_models() if "csnet" in name]
NAMES = [*CSNETS, "test_csf_resnet", "test_scfnet"]
SIZE = 64


def image(batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@functools.cache
def _prepared(name: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs)
    return calibrated(model, image(4, kwargs.get("in_chans", 3)))


def prepared(name: str, **kwargs: Any) -> nn.Module:
    return copy.deepcopy(_prepared(name, **kwargs))


@torch.no_grad()
def outputs(function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def all_outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    return model.forward_multi(x) if hasattr(model, "forward_multi") else (model(x),)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_forward_with_and_without_checkpointing(name: str, batch: int) -> None:
    model = prepared(name)
    expected = outputs(model, image(batch))
    assert expected.shape[0] == batch
    assert not torch.isnan(expected).any()
    model.set_grad_checkpointing()
    assert_close(outputs(model, image(batch)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_backward_reaches_every_parameter(name: str) -> None:
    model = prepared(name, num_classes=42).train()
    several = all_outputs(model, image())
    sum(logits.mean() for logits in several).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert {logits.shape[1] for logits in several} == {42}
    assert not any(torch.isnan(logits).any() for logits in several)


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_changes_neither_gradients_nor_statistics(name: str) -> None:
    plain, saving = prepared(name).train(), prepared(name).train()
    saving.set_grad_checkpointing(enable=True)
    for model in (plain, saving):
        sum(logits.square().mean() for logits in all_outputs(model, image())).backward()
    for (key, expected), actual in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert_close(actual.grad, expected.grad, rtol=0, atol=0, msg=lambda text, key=key: f"{key}: {text}")
    for (key, expected), actual in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(actual, expected), key


@pytest.mark.parametrize("name", NAMES)
def test_default_configuration(name: str) -> None:
    model = prepared(name)
    cfg, keys = model.default_cfg, set(model.state_dict())
    assert cfg["num_classes"] == model.num_classes == 1
    classifiers = [cfg["classifier"]] if isinstance(cfg["classifier"], str) else cfg["classifier"]
    assert {f"{layer}.weight" for layer in classifiers} <= keys
    first_conv = [cfg["first_conv"]] if isinstance(cfg["first_conv"], str) else cfg["first_conv"]
    assert first_conv
    assert {f"{conv}.weight" for conv in first_conv} <= keys
    assert cfg["origin_url"].startswith("https://")
    assert (cfg["interpolation"], cfg["crop_pct"], cfg["crop_mode"]) == ("bilinear", 1.0, "squash")
    least = cfg["min_input_size"]
    assert outputs(model, torch.randn(1, *least)).shape == (1, 1, *least[1:])
    if cfg.get("pool_size"):
        assert outputs(model.forward_features, torch.randn(1, *cfg["input_size"])).shape[-2:] == cfg["pool_size"]
    assert {len(cfg["mean"]), len(cfg["std"]), cfg["input_size"][0]} == {3}
    has_weights = bool(cfg.get("url"))
    assert has_weights == (name in {"csnet_x1_l", "csnet_x2_l"})
    assert cfg.get("license") == ("cc-by-nc-sa-4.0" if has_weights else None)
    assert timm.is_model_pretrained(name) == has_weights


@pytest.mark.parametrize("name", NAMES)
def test_head_can_be_taken_off(name: str) -> None:
    model = prepared(name)
    features = outputs(model.forward_features, image())
    assert features.shape[1] == model.num_features
    assert outputs(model.forward_head, features, pre_logits=True).shape[1] == model.head_hidden_size
    assert outputs(model.forward_head, features).shape[-2:] == (SIZE, SIZE)
    for arguments in ((0,), (0, "")):
        model.reset_classifier(*arguments)
        assert_close(outputs(model, image()), features, rtol=0, atol=0)
        assert not any(key.startswith("classifier") for key in model.state_dict())
    assert outputs(prepared(name, num_classes=0), image()).shape == features.shape
    model.reset_classifier(7)
    assert outputs(model, image()).shape == (2, 7, SIZE, SIZE)
    assert model.get_classifier().out_channels == 7
    with pytest.raises(ValueError, match="global_pool='avg'"):
        model.reset_classifier(7, "avg")


@pytest.mark.parametrize("name", NAMES)
def test_one_channel_and_five_classes(name: str) -> None:
    model = prepared(name, in_chans=1, num_classes=5)
    assert outputs(model, image(2, 1)).shape == (2, 5, SIZE, SIZE)


def check_features(features: list[Tensor], info: FeatureInfo, batch: int) -> None:
    assert len(features) == len(info.channels())
    for feature, channels, reduction in zip(features, info.channels(), info.reduction(), strict=True):
        assert feature.shape == (batch, channels, SIZE // reduction, SIZE // reduction)
        assert not torch.isnan(feature).any()


@pytest.mark.parametrize("name", CSNETS)
def test_features_only(name: str) -> None:
    model = prepared(name, features_only=True)
    assert model.feature_info.reduction() == [1, 2, 4, 8]
    check_features(outputs(model, image()), model.feature_info, 2)
    assert not any(key.startswith(("model.head", "model.classifier")) for key in model.state_dict())


@pytest.mark.parametrize("indices", [(0,), (1, 2), (0, 3), (-1,), (-3, -2)])
@pytest.mark.parametrize("name", CSNETS)
def test_some_features_only(name: str, indices: tuple[int, ...]) -> None:
    model = prepared(name, features_only=True, out_indices=indices)
    check_features(outputs(model, image()), model.feature_info, 2)
    kept = {int(key.split(".")[2]) for key in model.state_dict()}
    assert kept == set(range(max(index % 4 for index in indices) + 2))


@pytest.mark.parametrize("name", NAMES)
def test_forward_intermediates(name: str) -> None:
    model = prepared(name)
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    final, features = outputs(model.forward_intermediates, image())
    check_features(features, info, 2)
    assert_close(final, outputs(model.forward_features, image()), rtol=0, atol=0)
    for indices, expected in ((2, features[-2:]), ([0, 2], [features[0], features[2]]), ([-1], features[-1:])):
        alone = outputs(model.forward_intermediates, image(), indices=indices, norm=True, intermediates_only=True)
        assert_close(alone, expected, rtol=0, atol=0)
    early, some = outputs(model.forward_intermediates, image(), indices=[1], stop_early=True)
    assert_close([early, *some], [features[1], features[1]], rtol=0, atol=0)
    with pytest.raises(ValueError, match="output_fmt='NLC'"):
        model.forward_intermediates(image(), output_fmt="NLC")
    model.train().set_grad_checkpointing()
    again, _ = outputs(model.forward_intermediates, image())
    assert again.shape == final.shape


@pytest.mark.parametrize("name", ["test_csf_resnet", "test_scfnet"])
def test_features_are_those_of_the_backbone(name: str) -> None:
    source = prepared(name)
    model = timm.create_model(name, features_only=True, out_indices=(1, 3)).eval()
    missing, _ = model.model.load_state_dict(source.state_dict(), strict=False)
    assert missing == []
    assert model.feature_info.reduction() == [8, 32]
    features = outputs(model, image())
    check_features(features, model.feature_info, 2)
    assert_close(features, outputs(source.forward_intermediates, image(), indices=[1, 3], intermediates_only=True))
    assert not any(key.startswith(("model.head", "model.classifier")) for key in model.state_dict())
    with pytest.raises(ValueError, match="lost its head"):
        model.model.model_args()


def test_a_shortened_network_predicts_from_what_is_left() -> None:
    model = prepared("csnet_x1")
    assert model.prune_intermediate_layers([2]) == [2]
    model.reset_classifier(1)
    assert (model.num_features, model.head_hidden_size) == (80, 80)
    features = outputs(model.forward_features, image())
    assert features.shape == (2, 80, SIZE // 4, SIZE // 4)
    assert outputs(model.forward_head, features).shape == outputs(model, image()).shape == (2, 1, SIZE, SIZE)
    with pytest.raises(ValueError, match="num_classes=-1"):
        model.reset_classifier(-1)
    assert model.num_classes == 1


def test_finest_scale_with_channels_represents_a_stage() -> None:
    model = timm.create_model("csnet_x1", split=(0, 1), features_only=True)
    assert model.feature_info.reduction() == [2, 2, 4, 8]
    assert [tuple(f.shape[1:]) for f in model(image())] == [(20, 32, 32), (40, 32, 32), (80, 16, 16), (80, 8, 8)]


@pytest.mark.parametrize("name", NAMES)
def test_fx_graph(name: str) -> None:
    model = prepared(name)
    train_nodes, eval_nodes = get_graph_node_names(model)
    graph = GraphExtractNet(model, [eval_nodes[-1]]).eval()
    assert_close(outputs(graph, image()), outputs(model, image()), rtol=0, atol=0)
    learner = GraphExtractNet(prepared(name).train(), [train_nodes[-1]]).train()
    learner(image()).mean().backward()
    learned = [p for key, p in learner.named_parameters() if "side_classifiers" not in key]  # forward predicts from one
    assert all(parameter.grad is not None for parameter in learned)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning", "ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith("test_") else pytest.mark.slow) for name in NAMES]
)
def test_jit_trace(name: str) -> None:
    model = prepared(name)
    traced = torch.jit.trace(model, image())
    for x in (image(), image(1), torch.randn(1, 3, 67, 83)):
        assert_close(outputs(traced, x), outputs(model, x), rtol=0, atol=1e-5 * float(outputs(model, x).abs().max()))


def test_other_feature_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"feature_cls='hook'.*leave it out"):
        timm.create_model("test_csnet", features_only=True, feature_cls="hook")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_group_by_depth(name: str) -> None:
    model = prepared(name)
    for coarse, least in ((True, 5), (False, 5 if name.startswith("test_") else 18)):
        groups = group_parameters(model, model.group_matcher(coarse=coarse))
        assert sum(len(keys) for keys in groups.values()) == len(list(model.parameters()))
        assert len(groups) >= least
    assert model.no_weight_decay() == set()


@pytest.mark.parametrize("features_only", [False, True])
@pytest.mark.parametrize("name", CSNETS)
def test_weights_adapt_to_other_images_and_features(name: str, tmp_path: Path, features_only: bool) -> None:
    source = prepared(name)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    for in_chans in (1, 3, 5):
        model = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")},
            in_chans=in_chans,
            features_only=features_only,
        ).eval()
        inner = model.model if features_only else model
        assert_close(inner.stages[1][0].conv1.paths["0_to_0"].weight, source.stages[1][0].conv1.paths["0_to_0"].weight)
        assert not torch.isnan(torch.cat([x.flatten() for x in outputs(model, image(2, in_chans))])).any()


def test_features_of_a_checkpoint_with_its_own_widths(tmp_path: Path) -> None:
    source = prepared("csnet_x1_l")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = goctconv.create_model("csnet_x2", checkpoint_path=tmp_path / "weights.pth", features_only=True).eval()
    assert model.feature_info.channels() == [10, 34, 38, 50]
    expected = outputs(source.forward_intermediates, image(), intermediates_only=True)
    assert_close(outputs(model, image()), expected, rtol=0, atol=0)


def test_listing_and_tags() -> None:
    assert set(timm.list_models("csnet*")) == {name for name in CSNETS if name.startswith("csnet")}
    assert timm.list_pretrained("csnet*") == ["csnet_x1_l.distilled", "csnet_x1_l.duts", "csnet_x2_l.duts"]


def test_encoder_of_segmentation_models_pytorch() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    unet = smp.Unet("tu-csnet_x2", encoder_weights=None, encoder_depth=3, decoder_channels=(64, 32, 16))
    optimizer = torch.optim.SGD(unet.parameters(), 0.1)
    target = (image()[:, :1] > 0).float()
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(unet(image()), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in unet.encoder.parameters())
