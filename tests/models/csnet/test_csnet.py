"""CSNet against the published counts, the recorded outputs, and what its arguments promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import goctconv
from goctconv import ChannelError
from goctconv.models import CSNet
from goctconv.models.csnet._checkpoint import LAYOUT
from reference.conditioning import calibrated

COUNTS = json.loads((Path(__file__).parent / "parameter_counts.json").read_text())


def relative_to_largest(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: f"{row['model']}-{row['arguments']}")
def test_published_parameter_counts(row: dict[str, Any]) -> None:
    model = goctconv.create_model(row["model"], **row["arguments"])
    assert sum(p.numel() for p in model.parameters()) == row["parameters"]


@pytest.fixture(scope="module")
def released(shared: Path) -> torch.nn.Module:
    return goctconv.create_model("csnet_x1_l", checkpoint_path=shared / "weights" / "csnet-L-x1.pth.tar").eval()


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "reference" / "csnet_x1_l_outputs.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_released_logits(released: torch.nn.Module, recorded: dict[str, Tensor]) -> None:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    images = {"small": recorded["small/input"]}
    for name in ("square224", "wide"):
        seed, height, width = recorded[f"{name}/input"].tolist()
        pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
        images[name] = (pixels - mean) / std
    for name, image in images.items():
        with torch.no_grad():
            logits = released(image)
        torch.testing.assert_close(logits, recorded[f"{name}/logits"], rtol=0, atol=1e-4)


def test_released_intermediate_features(released: torch.nn.Module, recorded: dict[str, Tensor]) -> None:
    ours = {
        "stage0.0": "stages.0.0",
        "stage1.2": "stages.1.2",
        "stage2.3": "stages.2.3",
        "stage3.5": "stages.3.5",
        "stage4.3": "stages.4.3",
        "oct_fuse.fuse": "head.act1",
        "oct_fuse.ms": "head.act2",
        "oct_fuse.fuse1x1": "head.act3",
    }
    seen: dict[str, tuple[Tensor, ...]] = {}

    def keep(key: str, output: Tensor | tuple[Tensor, ...]) -> None:
        seen[key] = output if isinstance(output, tuple) else (output,)

    handles = [
        released.get_submodule(name).register_forward_hook(lambda _m, _i, output, key=key: keep(key, output))
        for key, name in ours.items()
    ]
    with torch.no_grad():
        released(recorded["small/input"])
    for handle in handles:
        handle.remove()
    keys = [key for key in recorded if key.startswith("small/") and key.count("/") == 2]
    assert len(keys) == 14
    for key in keys:
        _, layer, scale = key.split("/")
        assert relative_to_largest(seen[layer][int(scale)], recorded[key]) < 1e-5, key


@pytest.mark.parametrize(("name", "split"), [("1_0", (1, 0)), ("3_1", (3, 1)), ("0_1", (0, 1))])
def test_other_splits_in_float64(shared: Path, name: str, split: tuple[int, int]) -> None:
    with np.load(shared / "reference" / "csnet_splits.npz") as arrays:
        prefix = f"{name}/weights/"
        weights = {k.removeprefix(prefix): torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith(prefix)}
        image, expected = torch.from_numpy(arrays["input"]), torch.from_numpy(arrays[f"{name}/logits"])
    model = goctconv.create_model("csnet_x1", split=split).double().eval()
    model.load_state_dict(LAYOUT.converted(weights, model))
    with torch.no_grad():
        assert relative_to_largest(model(image), expected) < 1e-9


@pytest.mark.parametrize(
    ("fuse_stages", "reduction", "features"),
    [((4,), 8, 26), ((3, 4), 4, 52), ((2, 3, 4), 2, 65), ((1, 2, 3, 4), 1, 71), ((), 8, 80)],
)
def test_stages_fed_to_the_head(fuse_stages: tuple[int, ...], reduction: int, features: int) -> None:
    model = calibrated(CSNet(fuse_stages=fuse_stages), torch.randn(4, 3, 64, 64))
    assert model.num_features == features
    with torch.no_grad():
        fused = model.forward_features(torch.randn(1, 3, 65, 83))
        assert fused.shape == (1, features, 65 // reduction, 83 // reduction)
        assert model(torch.randn(1, 3, 65, 83)).shape == (1, 1, 65, 83)


@pytest.mark.parametrize(("fuse_stages", "reduction"), [((4,), 8), ((2, 3, 4), 2), ((1, 2, 3, 4), 1), ((), 8)])
def test_prediction_upsamples_to_the_image_by_itself(fuse_stages: tuple[int, ...], reduction: int) -> None:
    model = calibrated(CSNet(fuse_stages=fuse_stages), torch.randn(4, 3, 64, 64))
    x = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape[-2:] == (64 // reduction, 80 // reduction)
        assert torch.equal(model.forward_head(features), model(x))


def test_new_prediction_layer_is_where_the_network_is() -> None:
    model = CSNet(base_width=4).double()
    model.reset_classifier(3)
    assert model.classifier.weight.dtype == torch.float64
    hollow = CSNet(base_width=4).to("meta")
    hollow.reset_classifier(3)
    assert hollow.classifier.weight.device.type == "meta"


@pytest.mark.parametrize(("name", "value"), [("num_classes", -1), ("in_chans", 0)])
def test_impossible_numbers_of_channels(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} must be an integer of at least"):
        CSNet(**{name: value})


def test_learned_widths_with_an_absent_scale_and_branches() -> None:
    channels = {
        "stages": [[[3, 0]], [[0, 5], [2, 3]], [[4, 4], 5], [[4, 0], 7], [[0, 6], 8]],
        "fuse": [0, 3, 2],
        "dilated": [[0, 0, 0, 0, 0], [1, 0, 2, 0, 0], [0, 0, 0, 0, 4]],
        "fused": 9,
    }
    model = calibrated(CSNet(channels=channels), torch.randn(4, 3, 64, 64))
    assert model.channels == channels
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 67, 70))
    assert logits.shape == (1, 1, 67, 70)
    assert torch.isfinite(logits).all()
    assert json.loads(json.dumps(model.channels)) == channels


def test_split_rounds_each_scale() -> None:
    stages = CSNet(base_width=15, split=(5, 5)).channels["stages"]
    assert stages[0][0] == [8, 8]
    assert stages[2][-1] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_width": 0}, "base_width=0"),
        ({"base_width": -4}, "base_width=-4"),
        ({"split": (0, 0)}, r"split=\(0, 0\)"),
        ({"split": (1, 2, 3)}, r"split=\(1, 2, 3\)"),
        ({"depths": (1, 2, 3)}, r"depths=\(1, 2, 3\)"),
        ({"split": (float("nan"), 1)}, "split=.*nan"),
        ({"base_width": 1}, "base_width=1 is too narrow"),
        ({"fuse_stages": (0, 1)}, r"fuse_stages=\(0, 1\)"),
        ({"fuse_stages": (4, 2)}, r"fuse_stages=\(4, 2\)"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ChannelError, match=message):
        CSNet(**arguments)


def learned(**changes: Any) -> dict[str, Any]:
    return {**goctconv.create_model("csnet_x1_l").channels, **changes}


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ([1, 2], TypeError, r"channels=\[1, 2\] must be a dict with the keys"),
        ({"stages": []}, TypeError, "must be a dict with the keys dilated, fuse, fused, stages: it has stages"),
        (lambda: learned(stages=[[[1, 1]]] * 4), ChannelError, "5 stages"),
        (lambda: learned(stages=[[[1, 1]], [], [3], [3], [3]]), ChannelError, "at least one block"),
        (lambda: learned(stages=[[[1, 1]], [[1, 1]], [[1, 1]], [3], [3]]), ChannelError, r"\[2\]\[-1\]=\[1, 1\]"),
        (lambda: learned(stages=[[[1, 1, 1]], [[1, 1]], [3], [3], [3]]), ChannelError, r"\[0\]\[0\]=\[1, 1, 1\]"),
        (lambda: learned(stages=[[[0, 0]], [[1, 1]], [3], [3], [3]]), ChannelError, "at least one scale"),
        (lambda: learned(stages=[[[1.5, 1]], [[1, 1]], [3], [3], [3]]), TypeError, "1.5"),
        (lambda: learned(fuse=[1, 2]), ChannelError, "each of the 3 scales"),
        (lambda: learned(dilated=[[1] * 5] * 2), ChannelError, "each of the 3 scales"),
        (lambda: learned(dilated=[[1] * 4] * 3), ChannelError, "5 widths, of the dilations"),
        (lambda: learned(dilated=[[1.7, 1, 1, 1, 1]] * 3), TypeError, "dilated.*1.7"),
        (lambda: learned(dilated=[[True, 1, 1, 1, 1]] * 3), TypeError, "dilated.*True"),
        (lambda: learned(fused=0), ChannelError, "fused"),
    ],
)
def test_impossible_learned_widths(channels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CSNet(channels=channels() if callable(channels) else channels)
