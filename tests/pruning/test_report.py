"""PruningReport: as text and as data."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from goctconv.pruning import PruningReport, Reason, prune_channels
from goctconv.pruning._reasons import TEXTS
from goctconv.pruning._report import PrunedLayer

HELD = {0: Reason("live", "layer1.conv1"), 2: Reason("live", "fc"), 3: Reason("keep", "bn1")}
REPORT = PruningReport(
    layers={"bn1": PrunedLayer(16, 5, 2, HELD), "bn2": PrunedLayer(2048, 100, 100), "bn3": PrunedLayer(8, 0, 0)},
    parameters=(1000, 250),
    macs=(20_000, 10_000),
    activations=(4096, 4096),
    notes=["new bias: layer1.conv1.bias", "new bias: layer2.conv1.bias"],
    difference={"the example": 1e-7, "another size": 3e-7},
    milliseconds=(12.5, 10.0),
)


def resnet(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.05, 1.35)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def test_sums() -> None:
    assert (REPORT.channels, REPORT.masked, REPORT.removed) == (2072, 105, 102)
    assert REPORT.layers["bn1"].left == 14
    assert REPORT.layers["bn1"].channels_by_reason() == {reason: [channel] for channel, reason in HELD.items()}
    assert sum(REPORT.reasons().values()) == 3


def test_text() -> None:
    assert str(REPORT).splitlines() == [
        "102 of 105 masked channels removed",
        "  channels               2,072 ->  1,970   95.1 %",
        "  parameters             1,000 ->    250   25.0 %",
        "  MACs                  20,000 -> 10,000   50.0 %",
        "  bytes of activations   4,096 ->  4,096  100.0 %",
        "  milliseconds           12.50 ->  10.00   80.0 %",
        "equal to the masked network to 3.0e-07 of the largest output (the example 1.0e-07, another size 3.0e-07)",
        "layer        channels  masked, stay",
        "bn1       16 ->    14             3",
        "bn2    2,048 -> 1,948",
        "3 masked channels stay because",
        "       2  it is live where … reads it: layer1.conv1 (1), fc (1)",
        "       1  keep names bn1",
        "new bias: layer1.conv1.bias",
        "new bias: layer2.conv1.bias",
    ]


def test_text_without_masked_channels() -> None:
    report = PruningReport({"bn": PrunedLayer(8, 0, 0)}, (10, 10), (0, 0), (0, 0))
    assert str(report).splitlines()[0] == (
        "no channel is masked, so none is removed: no score is below the threshold, or the ratio is 0"
    )
    assert "%" not in str(report).splitlines()[3]  # 0 MACs have no share
    assert "layer" not in str(report)


def test_long_networks_show_what_changed_most() -> None:
    layers = {f"bn{index}": PrunedLayer(64, index, index // 2, {}) for index in range(100)}
    lines = str(replace(REPORT, layers=layers)).splitlines()
    shown = [line for line in lines if line.startswith("bn")]
    assert len(shown) == 40
    assert shown[-1].startswith("bn99 ")
    hidden = [layer for layer in layers.values() if layer.masked][:-40]
    assert f"and {len(hidden)} more, which lost {sum(layer.removed for layer in hidden)} channels" in "\n".join(lines)


def test_long_networks_leave_out_what_did_not_change() -> None:
    layers = {f"bn{i}": PrunedLayer(64, 2, i % 2, {0: Reason("keep", "bn")} if i % 2 else {}) for i in range(60)}
    text = str(replace(REPORT, layers=layers))
    assert len(re.findall(r"^bn", text, re.MULTILINE)) == 40
    assert set(re.findall(r"^bn\d+", text, re.MULTILINE)) >= {f"bn{i}" for i in range(1, 60, 2)}
    assert "and 20 more, which lost 0 channels and kept 0 masked ones" in text


@pytest.mark.parametrize(
    ("reasons", "shown"),
    [
        ({Reason("live", "fc"): 1}, ["it is live where fc reads it"]),
        (
            {Reason("balance", "layer1.0", "chunk"): 2, Reason("balance", "stem", "chunk"): 1},
            ["balance: chunk in …: layer1.0 (2), stem (1)"],
        ),
        ({Reason("output"): 1, Reason("not_run"): 2}, ["it does not run", "the model returns it"]),
        (
            {Reason("border", "layer2", "conv1"): 1, Reason("border", "layer3", "conv2"): 2},
            [
                "a border of zeros in … makes it no constant, and … reads that: conv2 → layer3 (2), conv1 → layer2 (1)",
            ],
        ),
        (
            {Reason("border", "layer2", "conv1"): 1, Reason("border", "layer3", "conv1"): 2},
            ["a border of zeros in conv1 makes it no constant, and … reads that: layer3 (2), layer2 (1)"],
        ),
        (
            {Reason("representative", f"x.{i}"): 9 - i for i in range(6)},
            ["it stands for the constants that … reads: x.0 (9), x.1 (8), x.2 (7), x.3 (6), 2 more"],
        ),
        ({Reason("min_channels", by="2"): 1, Reason("a new kind"): 2}, ["a new kind", "min_channels=2"]),
    ],
)
def test_reasons_are_grouped_by_kind(reasons: dict[Reason, int], shown: list[str]) -> None:
    held = [reason for reason, count in reasons.items() for _ in range(count)]
    layer = PrunedLayer(99, len(held), 0, dict(enumerate(held)))
    groups = replace(REPORT, layers={"bn": layer}).grouped_reasons()
    assert sum(group.count for group in groups) == sum(reasons.values())
    assert [str(group) for group in groups] == shown


def test_every_kind_of_reason_has_a_text() -> None:
    for kind, text in TEXTS.items():
        shown = str(Reason(kind, "a.layer", "an operation"))
        assert ("a.layer" in shown) == ("{layer}" in text)
        assert ("an operation" in shown) == ("{by}" in text)
        assert not {"{", "}"} & set(shown)


def test_arguments_are_spelled_as_asked() -> None:
    layer = PrunedLayer(9, 2, 0, {0: Reason("coupled", "a", "b"), 1: Reason("round_to", by="8")})
    text = replace(REPORT, layers={"bn": layer}).text(
        lambda name, value: f"--{name}" + (f" <{value}>" if value else "")
    )
    assert "--groups <True> masks channels together" in text
    assert "--round_to <8>" in text
    assert "groups=True masks channels together" in str(replace(REPORT, layers={"bn": layer}))


def test_data_and_back() -> None:
    data = json.loads(json.dumps(REPORT.to_dict()))
    assert (data["masked"], data["removed"]) == (105, 102)
    assert [held["channels"] for held in data["layers"]["bn1"]["held"] if held["kind"] == "keep"] == [[3]]
    assert PruningReport.from_dict(data) == REPORT
    unmeasured = replace(REPORT, milliseconds=None, difference={})
    assert PruningReport.from_dict(json.loads(json.dumps(unmeasured.to_dict()))) == unmeasured


@pytest.mark.parametrize("data", [{}, {**REPORT.to_dict(), "layers": {"bn": 3}}, {**REPORT.to_dict(), "macs": [1]}, 7])
def test_other_data_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no pruning report"):
        PruningReport.from_dict(data)


def test_of_a_network() -> None:
    result = prune_channels(resnet("test_resnet"), torch.zeros(1, 3, 64, 64), ratio=0.3, latency=True)
    report = result.report
    assert report.masked == 312
    for name, layer in report.layers.items():
        assert layer.dependent == layer.removed - (layer.masked - len(layer.held)) >= 0, name
        assert layer.left == result.model.get_submodule(name).num_features
        assert all(0 <= channel < layer.channels for channel in layer.held)
    assert report.parameters[1] == sum(parameter.numel() for parameter in result.model.parameters())
    assert report.macs[1] < report.macs[0]
    assert report.activations[1] < report.activations[0]
    assert report.milliseconds is not None
    assert set(report.difference) == {"the example", "random input", "another size"}
    assert re.search(r"still used by …: .*layer\d\.\d\.conv\d \(\d+\)", str(report))
