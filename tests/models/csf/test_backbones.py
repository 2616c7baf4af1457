"""A saliency head on backbones of every family: forward, backward, odd sizes, saving and reloading, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

import goctconv
from goctconv.deployment import export_onnx
from goctconv.models import CSF, create_model

SIZE = {"img_size": 64}  # of networks whose windows or positions would make small images large
NORMAL: dict[str, dict[str, Any]] = {
    "test_convnext": {},
    "test_efficientnet": {},
    "test_resnet": {},
    "test_vit": {},
}
SLOW: dict[str, dict[str, Any]] = {
    "convnextv2_atto": {},
    "cs3darknet_focus_s": {},
    "densenet121": {},
    "dla46x_c": {},
    "edgenext_xx_small": {},
    "efficientnet_b0": {},
    "fastvit_t8": {},
    "ghostnet_050": {},
    "hgnetv2_b0": {},
    "hrnet_w18_small": {},
    "lcnet_050": {},
    "levit_128s": {},
    "maxvit_nano_rw_256": SIZE,
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_035": {},
    "mobilevit_xxs": {},
    "pvt_v2_b0": {},
    "regnetx_002": {},
    "repvgg_a0": {},
    "repvit_m0_9": {},
    "rexnet_100": {},
    "swin_tiny_patch4_window7_224": {},
    "swinv2_tiny_window8_256": {},
    "tiny_vit_5m_224": {},
    "vgg11_bn": {},
    "vit_tiny_patch16_224": {},
}
BACKBONES = [*NORMAL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
PADDED = {"hrnet_w18_small": 32, "maxvit_nano_rw_256": 64, "swin_tiny_patch4_window7_224": 4}


def image(batch: int = 2, height: int = 65, width: int = 97) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module", params=BACKBONES)  # of the module, so that the tests of one backbone follow each other
def made(request: pytest.FixtureRequest) -> CSF:
    torch.manual_seed(0)
    return create_model("csf", backbone=request.param, backbone_args={**NORMAL, **SLOW}[request.param] or None)


@torch.no_grad()
def logits(model: nn.Module, x: Tensor) -> Tensor:
    return model.eval()(x)


def test_there_are_many_families() -> None:
    modules = {timm.models.model_entrypoint(name).__module__ for name in SLOW}
    assert len(SLOW) >= 25
    assert len(modules) >= 22


def test_forward_of_odd_and_small_sizes(made: CSF) -> None:
    for size in ((65, 97), (64, 64), (33, 50)):
        found = logits(made, image(1, *size))
        assert found.shape == (1, 1, *size)
        assert torch.isfinite(found).all()
        assert float(found.std()) > 0
    if made.backbone_name in PADDED:
        assert made.image_sizes.multiple == PADDED[made.backbone_name]
    both = logits(made, image(2, 64, 64))
    alone = logits(made, image(2, 64, 64)[:1])
    assert float((both[:1] - alone).abs().max()) < 1e-4 * float(both.abs().max())


def test_every_parameter_learns(made: CSF) -> None:
    made.train()(image(2, 64, 64)).square().mean().backward()
    idle = [key for key, p in made.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    made.zero_grad(set_to_none=True)
    assert idle == []


def test_saved_and_reloaded(made: CSF, tmp_path: Path) -> None:
    made.save_pretrained(tmp_path)
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert other.image_sizes == made.image_sizes
    assert torch.equal(logits(other, image(1)), logits(made, image(1)))


def test_exported(made: CSF) -> None:
    x = image(1)
    expected = logits(made, x)
    with torch.no_grad():
        found = torch.export.export(made, (x,)).module()(x)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "hrnet_w18_small"])
def test_onnx_of_any_size(name: str, tmp_path: Path) -> None:
    model = create_model("csf", backbone=name, backbone_args=SLOW.get(name))
    export_onnx(model, tmp_path / "csf.onnx")
    x = image(2, 131, 70)
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "csf.onnx")).run(None, {"image": x.numpy()})
    expected = logits(model, x)
    assert float((torch.from_numpy(found) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.slow
def test_onnx_of_one_size(tmp_path: Path) -> None:
    """Any size is refused, as a test of exports shows with a small network; here that alone takes minutes."""
    small = {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)}
    model = create_model("csf", backbone="swin_tiny_patch4_window7_224", backbone_args=small)
    export_onnx(model, tmp_path / "csf.onnx", size=(64, 96))
    x = image(2, 64, 96)
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "csf.onnx")).run(None, {"image": x.numpy()})
    expected = logits(model, x)
    assert float((torch.from_numpy(found) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csf_resnet50", "csf_resnet101", "csf_res2net50", "csf_res2net101"])
def test_registered_variants(name: str) -> None:
    model = goctconv.create_model(name)
    assert logits(model, image(1)).shape == (1, 1, 65, 97)
    assert model.channels["fuse"] == [128, 256, 512, 512]
