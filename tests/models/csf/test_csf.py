"""CSF on the published backbones: the recorded head, exact counts, the authors' layout, and options."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

import goctconv
from goctconv import ChannelError, CheckpointError, FusionHead, ScaleError
from goctconv.models import CSF, UnknownModelError, count_macs, create_model
from goctconv.models.csf._model import group_norm
from reference import csf as oracle
from reference.compare import assert_equal

TINY = {"backbone": "test_resnet"}


def image(batch: int = 2, height: int = 65, width: int = 97, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def logits(model: nn.Module, x: Tensor | None = None) -> Tensor:
    return model.eval()(image() if x is None else x)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def in_published_layout(model: nn.Module) -> dict[str, Tensor]:
    """The inverse of `CSF.layout.converted`: our tensors under the authors' names."""
    state = model.state_dict()
    published: dict[str, Tensor] = {}
    for place in CSF.layout.places(model, {}):
        whole = published.setdefault(place.key, torch.full(place.shape, float("nan")).to(state[place.name].dtype))
        whole[place.block or ...] = state[place.name]
    return published


def computed(key: str, shape: tuple[int, ...]) -> Tensor:
    """A value for every element that follows from the tensor's published name and the element's index alone."""
    count = int(np.prod(shape))
    phase = zlib.crc32(key.encode()) % 1000
    wave = np.sin(0.37 * np.arange(count, dtype=np.float64) + phase)
    if key.endswith("running_var"):
        values = 1 + 0.3 * wave
    elif key.endswith(("running_mean", "bias")):
        values = 0.1 * wave
    elif len(shape) == 1:  # γ, and slopes of PReLU
        values = (0.25 if "prelu" in key else 1) + 0.1 * wave
    else:
        values = wave * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(values.reshape(shape))


@pytest.mark.parametrize("case", ["even", "odd"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_recorded_head(shared: Path, case: str, dtype: torch.dtype) -> None:
    with np.load(shared / "reference" / "csf_head.npz") as arrays:
        state = {k.removeprefix("weights/"): arrays[k] for k in arrays.files if k.startswith("weights/")}
        features = [arrays[f"{case}/in{level}"] for level in range(4)]
        expected = arrays[f"{case}/logits"]
    head = FusionHead(
        (64, 96, 128, 160),
        (32, 64, 96, 96),
        in_reductions=(4, 8, 16, 32),
        weight_scale=1,
        downsample="bilinear",
        norm=group_norm,
    )
    holder = nn.Module()
    holder.backbone, holder.pyramid, holder.head, holder.classifier = nn.Module(), None, head, nn.Conv2d(288, 1, 1)
    holder.load_state_dict(CSF.layout.converted({k: torch.from_numpy(v) for k, v in state.items()}, holder))
    holder.to(dtype)
    with torch.no_grad():
        found = holder.classifier(head(tuple(torch.from_numpy(x).to(dtype) for x in features)))
    assert_equal(found, expected, 1e-5)
    slow = oracle.logits([x.astype(np.float64) for x in features], {k: v.astype(np.float64) for k, v in state.items()})
    assert_equal(torch.from_numpy(slow), expected, 1e-5)
    assert_equal(found, slow, 1e-12 if dtype == torch.float64 else 1e-5)


def test_published_counts() -> None:
    with torch.device("meta"):
        model = goctconv.create_model("csf_res2net50")
        resnet50 = goctconv.create_model("csf_resnet50")
    head = model.head
    parts = [
        model.backbone,
        nn.ModuleList([head.fuse, head.norm1, head.act1]),
        nn.ModuleList([head.dilated, head.norm2, head.act2]),
        nn.ModuleList([head.merge, head.norm3, head.act3]),
        model.classifier,
    ]
    assert [parameters(part) for part in parts] == [23_669_352, 5_410_944, 5_460_096, 1_986_688, 1_409]
    assert parameters(model) == 36_528_489
    assert round(parameters(resnet50) / 1e6, 2) == 36.37
    assert model.channels["fuse"] == [128, 256, 512, 512]
    assert model.channels["fused"] == 1408


@functools.cache
def published_state() -> dict[str, Tensor]:
    with torch.device("meta"):
        model = goctconv.create_model("csf_res2net50")
    shapes = {place.key: place.shape for place in CSF.layout.places(model, {}) if "num_batches" not in place.key}
    return {key: computed(key, shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("size", [pytest.param((64, 96), marks=pytest.mark.slow), (65, 97)])
def test_whole_network_of_computed_values(size: tuple[int, int]) -> None:
    state = published_state()
    model = goctconv.create_model("csf_res2net50").double()
    model.load_state_dict(CSF.layout.converted(state, model))
    x = torch.from_numpy(np.sin(0.1 * np.arange(3 * size[0] * size[1]))).reshape(1, 3, *size)

    backbone = timm.create_model("res2net50d", features_only=True, out_indices=(1, 2, 3, 4)).double().eval()
    own = {key.removeprefix("base."): value for key, value in state.items() if key.startswith("base.")}
    missing, unexpected = backbone.load_state_dict(own, strict=False)
    assert unexpected == []
    assert all(key.endswith("num_batches_tracked") for key in missing)
    with torch.no_grad():
        features = [feature.numpy() for feature in backbone(x)]
    expected = oracle.logits(features, {key: value.numpy() for key, value in state.items()}, size)
    assert expected.std() > 0.01
    assert_equal(logits(model, x), expected, 1e-10)
    assert_equal(logits(model.float(), x.float()), expected, 1e-4)


def test_mapping_covers_every_tensor_once() -> None:
    for arguments in (TINY, {"backbone": "test_vit"}, {**TINY, "norm": "batch"}):
        model = CSF(**arguments)
        names = [place.name for place in CSF.layout.places(model, {})]
        assert sorted(names) == sorted(model.state_dict())
        published = in_published_layout(model)
        assert not any(torch.isnan(tensor).any() for tensor in published.values() if tensor.is_floating_point())
        assert CSF.layout.matches(published)
        assert not CSF.layout.matches(model.state_dict())


@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
def test_checkpoints_load_with_their_widths_and_norm(layout: Any, tmp_path: Path) -> None:
    channels = {"fuse": [32, 0, 40, 64], "dilated": [[1, 0, 2, 3, 4], [0] * 5, [9, 8, 7, 6, 2], [32] * 5], "fused": 96}
    model = create_model("csf", backbone="test_resnet", channels=channels, norm="batch")
    torch.save({"state_dict": layout(model)}, tmp_path / "weights.pth.tar")
    for other in (
        goctconv.create_model("test_csf_resnet", checkpoint_path=tmp_path / "weights.pth.tar"),
        create_model("csf", backbone="test_resnet", checkpoint_path=tmp_path / "weights.pth.tar"),
    ):
        assert (other.channels, other.norm) == (channels, "batch")
        assert torch.equal(logits(other), logits(model))
        assert other.weights_license == ("cc-by-nc-sa-4.0" if layout is in_published_layout else None)
    assert CSF.layout.widths({}) is None


def test_classifier_of_the_authors_backbone_is_left_out(tmp_path: Path) -> None:
    model = goctconv.create_model("test_csf_resnet")
    state = {**in_published_layout(model), "base.fc.weight": torch.zeros(1000, 96), "base.fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "weights.pth")
    other = goctconv.create_model("test_csf_resnet", checkpoint_path=tmp_path / "weights.pth")
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
def test_every_mismatch_is_listed(layout: Any, tmp_path: Path) -> None:
    state = layout(goctconv.create_model("test_csf_resnet"))
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    gone, bent = names[5], names[11]
    del state[gone]
    state[bent] = torch.zeros(1, 2, 3)
    state["surplus.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError) as caught:
        goctconv.create_model("test_csf_resnet", checkpoint_path=tmp_path / "weights.pth")
    assert caught.value.problems == {
        "missing": [gone],
        "unexpected": ["surplus.weight"],
        "of the wrong shape": [next(text for text in caught.value.problems["of the wrong shape"] if bent in text)],
    }


@pytest.mark.parametrize("layout", [in_published_layout, lambda model: model.state_dict()], ids=["authors", "ours"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit"])
def test_timm_adapts_image_and_prediction(backbone: str, layout: Any, tmp_path: Path) -> None:
    source = create_model("csf", backbone=backbone)
    torch.save(layout(source), tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth")}
    options = {"pretrained": True, "pretrained_cfg_overlay": overlay, "backbone": backbone}
    assert torch.equal(logits(timm.create_model("csf", **options)), logits(source))
    grey = timm.create_model("csf", **options, in_chans=1, num_classes=4)
    alike = image(channels=1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = source.eval().forward_features(alike)
        assert torch.allclose(grey.eval().forward_features(image(channels=1)), expected, atol=1e-4)
    assert logits(grey, image(channels=1)).shape == (2, 4, 65, 97)


def test_backbone_weights_from_a_file(tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet")
    torch.save(whole.state_dict(), tmp_path / "resnet.pth")
    model = create_model("csf", backbone="test_resnet", pretrained_backbone=tmp_path / "resnet.pth")
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[key]), key
    assert "pretrained_backbone" not in model.model_args()
    headless = {key: value for key, value in whole.state_dict().items() if not key.startswith("fc.")}
    torch.save(headless, tmp_path / "headless.pth")
    other = create_model("csf", backbone="test_resnet", pretrained_backbone=str(tmp_path / "headless.pth"), in_chans=1)
    assert torch.equal(other.backbone.layer1[0].conv1.weight, whole.layer1[0].conv1.weight)
    vit = timm.create_model("test_vit", num_classes=7)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    plain = create_model("csf", backbone="test_vit", pretrained_backbone=tmp_path / "vit.pth")
    assert torch.equal(plain.backbone.model.blocks[0].mlp.fc1.weight, vit.blocks[0].mlp.fc1.weight)


def test_backbone_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    del state["layer1.0.conv1.weight"]
    state["other"] = torch.zeros(1)
    torch.save(state, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"for the backbone test_resnet") as caught:
        create_model("csf", backbone="test_resnet", pretrained_backbone=tmp_path / "resnet.pth")
    assert caught.value.problems == {"missing": ["layer1.0.conv1.weight"], "unexpected": ["other"]}
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        create_model("csf", backbone="test_resnet", pretrained_backbone=tmp_path / "none.pth")


def test_licence_of_downloaded_backbone_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: weights)
    model = create_model("csf", backbone="test_resnet", pretrained_backbone=True)
    assert torch.equal(model.backbone.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])
    assert model.weights_license == timm.models.get_pretrained_cfg("test_resnet").license


@pytest.mark.parametrize("levels", [(2, 3, 4), (0, 1, 2, 3, 4), (1, 3), (-1,)])
def test_any_levels(levels: tuple[int, ...], tmp_path: Path) -> None:
    model = create_model("csf", backbone="test_resnet", levels=levels, in_chans=2, num_classes=3)
    assert logits(model, image(channels=2)).shape == (2, 3, 65, 97)
    model.save_pretrained(tmp_path)
    other = goctconv.create_model(f"local-dir:{tmp_path}")
    assert torch.equal(logits(other, image(channels=2)), logits(model, image(channels=2)))


def test_widths_and_norms() -> None:
    model = create_model("csf", backbone="test_resnet", fuse_channels=(48, 10, 7, 64))
    assert [model.head.norm1.get_submodule(str(level)).num_groups for level in range(4)] == [16, 2, 1, 32]
    assert model.channels["dilated"][1] == [2, 2, 2, 2, 2]
    assert model.channels["fused"] == 129
    assert logits(model).shape == (2, 1, 65, 97)
    batch = create_model("csf", backbone="test_resnet", norm="batch")
    assert isinstance(batch.head.norm3.get_submodule("0"), nn.BatchNorm2d)


def test_fixed_size_backbones_pad_up_to_it_and_refuse_more() -> None:
    model = create_model(
        "csf", backbone="test_vit", backbone_args={"dynamic_img_size": False, "dynamic_img_pad": False, "img_size": 64}
    )
    assert tuple(model.image_sizes) == (64, 64, 64)
    assert logits(model, image(2, 33, 50)).shape == (2, 1, 33, 50)
    with pytest.raises(ScaleError, match=r"x=\(65, 97\) must be .* 64x64 .*img_size"):
        logits(model)


def test_padding_repeats_the_border_and_is_cropped() -> None:
    model = create_model("csf", backbone="test_resnet", image_sizes=(32, 64, None))
    whole = create_model("csf", backbone="test_resnet", image_sizes=(1, 1, None))
    whole.load_state_dict(model.state_dict())
    padded = nn.functional.pad(image(2, 33, 70), (0, 26, 0, 31), mode="replicate")
    assert torch.equal(logits(model, image(2, 33, 70)), logits(whole, padded)[..., :33, :70])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"backbone": "resnet5"},
            UnknownModelError,
            r"backbone='resnet5' is no network of timm \(did you mean .*resnet",
        ),
        ({"backbone": 3}, TypeError, r"backbone=3 must be the name"),
        (
            {**TINY, "levels": (3, 1)},
            ValueError,
            r"levels=\(3, 1\) must be .* of test_resnet of increasing stride.* these have \[16, 4\]",
        ),
        ({**TINY, "levels": (7,)}, ValueError, r"levels=\(7,\) must be features of test_resnet, from 0 to 4"),
        ({**TINY, "fuse_channels": (32, 64)}, ChannelError, r"one width for each of the 4 levels"),
        ({**TINY, "norm": "layer"}, ValueError, r"norm='layer' must be one of"),
        ({**TINY, "in_chans": 0}, ValueError, r"in_chans=0 must be an integer of at least 1"),
        ({**TINY, "image_sizes": (32, 1)}, ValueError, r"image_sizes=\(32, 1\) must be"),
        ({**TINY, "backbone_args": {"in_chans": 1}}, ValueError, r"backbone_args=.* names in_chans, which"),
        (
            {**TINY, "backbone_args": {"colour": 1}},
            ValueError,
            r"does not suit test_resnet, which has no argument 'colour'",
        ),
        (
            {**TINY, "channels": {"fuse": [1]}},
            ChannelError,
            r"channels=.* must be a dict with the keys dilated, fuse, fused: it has fuse",
        ),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_model("csf", **arguments)


def test_names_of_models_say_their_backbone() -> None:
    with pytest.raises(ValueError, match=r"no weights were released for csf_resnet18.*pretrained_backbone=True"):
        goctconv.create_model("csf_resnet18", pretrained=True)
    with pytest.raises(
        ValueError, match="backbone=None must be the name of one of timm's networks, on which csf stands"
    ):
        goctconv.create_model("csf")
    with pytest.raises(
        ValueError,
        match=r"""'resnet50' is not that of csf_resnet18, resnet18: use create_model\("csf", backbone='resnet50'\)""",
    ):
        goctconv.create_model("csf_resnet18", backbone="resnet50")


def test_operations_are_counted() -> None:
    model = goctconv.create_model("test_csf_resnet")
    whole = count_macs(model, (64, 96))
    assert whole > count_macs(model.backbone, (64, 96)) > 0
    assert count_macs(create_model("csf", backbone="test_vit"), (64, 96)) > 0
