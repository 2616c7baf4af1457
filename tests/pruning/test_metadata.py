"""What a network of timm tells about its own widths is true after pruning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from goctconv.pruning import PruningResult, prune_channels

EXAMPLE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def pruned(name: str) -> tuple[nn.Module, PruningResult]:
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=7).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1)
    return model, prune_channels(model, EXAMPLE, ratio=0.3, groups=True)


def outputs(model: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Return the widths of what modules put out."""
    found: dict[str, int] = {}

    def note(name: str, output: Tensor) -> None:
        found[name] = output.shape[1]

    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: note(name, output))
    model(EXAMPLE)
    return found


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "dla34", "regnetx_002", "repvgg_a0"])
@torch.no_grad()
def test_widths_that_a_network_tells(name: str) -> None:
    model, result = pruned(name)
    for slim in (result.model, result.plan.apply(model)):
        features: Any = slim.forward_features(EXAMPLE)
        assert slim.num_features == features.shape[1] < model.num_features
        widths = {stage["module"]: stage["num_chs"] for stage in slim.feature_info}
        assert outputs(slim, widths) == widths
        slim.reset_classifier(5)
        assert slim(EXAMPLE).shape == (1, 5)
        assert slim.head_hidden_size == slim.forward_head(features, pre_logits=True).shape[1]


def test_the_original_tells_what_it_did() -> None:
    model, result = pruned("resnet18")
    assert [stage["num_chs"] for stage in model.feature_info] == [64, 64, 128, 256, 512]
    assert (model.num_features, model.head_hidden_size) == (512, 512)
    assert result.model.feature_info is not model.feature_info
    assert "forward_features" not in vars(result.model)
