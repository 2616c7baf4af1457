"""Dynamic weight decay and channel removal on a CSF with BatchNorm."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import goctconv
from goctconv import DynamicWeightDecay, prune_channels
from goctconv.models import CSF, load_pruned, save_pruned


def image(batch: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def logits(model: nn.Module, x: Tensor | None = None) -> Tensor:
    return model.eval()(image(2, 67, 83) if x is None else x)


def drawn(part: str = "") -> CSF:
    """A network whose scales and shifts in one part are drawn at random, so that there is something to choose from."""
    torch.manual_seed(4)
    model = goctconv.create_model("test_csf_resnet", norm="batch")
    model.train()(image(4))
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name.startswith(part):
            nn.init.uniform_(module.weight, 0.1, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval().double()


def test_dynamic_weight_decay_reads_every_batch_norm() -> None:
    model = goctconv.create_model("test_csf_resnet", norm="batch").train()
    plain = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name.partition(".")[0] for name in norms} == {"backbone", "head"}
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), 1e-2), model, weight_decay=3.0)
    model(image()).square().mean().backward()
    gradients = {name: model.get_submodule(name).weight.grad.clone() for name in norms}
    optimizer.step()
    metrics = optimizer.metrics()
    assert set(metrics) == norms
    for name in norms:
        gamma = plain[f"{name}.weight"]
        expected = gamma - 1e-2 * (gradients[name] + 3.0 * metrics[name].metric * gamma)
        assert_close(model.get_submodule(name).weight.detach(), expected)
    assert {metrics[f"head.norm1.{level}"].activation for level in range(4)} == {
        f"head.act1.{level} (PReLU)" for level in range(4)
    }


def test_a_pruned_head_is_reloaded_by_plain_timm(tmp_path: Path) -> None:
    model = drawn("head.")
    result = prune_channels(model, image().double(), ratio=0.4, keep=["backbone.*"])
    slim = result.model
    assert result.report.share > 0.5
    assert not slim.backbone_is_pruned
    assert sum(slim.channels["fuse"]) < sum(model.channels["fuse"])
    masked = result.plan.mask(drawn("head."))
    x = image(2, 67, 83).double()
    assert_close(logits(slim, x), logits(masked, x), rtol=0, atol=1e-10)
    slim = slim.float()
    slim.save_pretrained(tmp_path)
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert other.channels == slim.channels
    assert torch.equal(logits(other), logits(slim))


def test_a_pruned_backbone_travels_with_its_plan(tmp_path: Path) -> None:
    model = drawn()
    result = prune_channels(model, image().double(), ratio=0.4)
    slim = result.model
    assert slim.backbone_is_pruned
    assert [info["num_chs"] for info in slim.feature_info] == list(slim.head.fuse.in_widths)
    x = image(2, 67, 83).double()
    assert_close(logits(slim, x), logits(result.plan.mask(drawn()), x), rtol=0, atol=1e-10)
    slim.float()
    with pytest.raises(ValueError, match=r"backbone of this CSF is pruned.*save_pruned"):
        slim.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
    save_pruned(slim, tmp_path, result.plan)
    for other in (load_pruned(tmp_path), goctconv.create_model(f"local-dir:{tmp_path}")):
        assert other.channels == slim.channels
        assert torch.equal(logits(other), logits(slim))
