"""PruningReport: as text, as data, as a page and as a picture."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from goctconv.pruning import PrunedLayer, PruningReport, Reason, plan_pruning, prune_channels
from goctconv.pruning._reasons import TEXTS

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


class Page(HTMLParser):
    """Checks that tags are closed, and remembers them and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "wbr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""


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


def test_page() -> None:
    source = REPORT.to_html()
    page = Page(source)
    for expected in ("102 of 105", "bn1", "16 → 14", "2,048 → 1,948", "keep names bn1: 3", "3.0e-07", "12.50", "Notes"):
        assert expected in page.text
    order = [page.text.index(part) for part in ("bytes of activations", "Why masked channels stay", "Notes", "Layers")]
    assert order == sorted(order)
    bars = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert [bar["aria-label"] for bar in bars] == [
        "11 live, 3 masked that stay, 2 removed",
        "1,948 live, 0 masked that stay, 100 removed",
        "8 live, 0 masked that stay, 0 removed",
    ]
    assert "script" not in {tag for tag, _ in page.tags}
    assert "prefers-color-scheme: dark" in source
    assert not re.search(r"https?:|url\(|src=|href=", source)


def test_page_has_every_place_of_a_reason() -> None:
    held = {channel: Reason("live", f"layer{channel % 20}.conv1") for channel in range(50)}
    notes = [f"new bias: layer{index}.conv1.bias" for index in range(30)]
    page = Page(replace(REPORT, layers={"bn": PrunedLayer(64, 50, 0, held)}, notes=notes).to_html())
    why, _, rest = page.text.partition("Why masked channels stay")[2].partition("Notes")
    assert why.strip().startswith("50it is live where … reads it: layer0.conv1 (3), layer1.conv1 (3), 18 more")
    assert all(f"layer{index}.conv1 ({2 if index >= 10 else 3})" in why for index in range(20))
    assert all(note.removeprefix("new bias: ") in rest.partition("Layers")[0] for note in notes)
    assert sum(tag == "details" for tag, _ in page.tags) == 2  # the places, and the layer


def test_page_opens_a_layer_as_a_whole_row() -> None:
    source = REPORT.to_html()
    rows = re.findall(r'<(div|summary) class="row"><span><code>(\w+)</code></span>', source)
    assert rows == [("summary", "bn1"), ("div", "bn2"), ("div", "bn3")]
    assert re.search(r"</summary><ul><li>.*?</li></ul></details>", source)
    assert re.search(r"max-width: 760px\) \{\s*\.row", source)
    assert "min-width: 180px" not in source


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("layer1.0.bn1", "layer1.<wbr>0.<wbr>bn1"),
        ("0.norm", "0.<wbr>norm"),
        ("head", "head"),
    ],
)
def test_page_breaks_names_at_dots(name: str, shown: str) -> None:
    source = replace(REPORT, layers={name: PrunedLayer(4, 1, 0, {0: Reason("live", name)})}).to_html(title=name)
    assert f"<code>{shown}</code>" in source
    assert f"it is live where {shown} reads it" in source
    assert f"<h1>{shown}</h1>" in source
    assert "overflow-wrap: anywhere" not in source


def test_page_escapes_names() -> None:
    layers = {"<b>&\"'": PrunedLayer(4, 2, 1, {0: Reason("<script>alert(1)</script>")})}
    source = replace(REPORT, layers=layers, notes=["<i>"]).to_html(title="<u>")
    assert {tag for tag, _ in Page(source).tags}.isdisjoint({"b", "script", "u"})
    assert "&lt;i&gt;" in source
    assert "&lt;script&gt;" in source


def test_page_without_layers() -> None:
    assert "Layers" not in Page(PruningReport({}, (0, 0), (0, 0), (0, 0)).to_html()).text


def test_page_of_runs_of_channels() -> None:
    held = dict.fromkeys([0, 1, 2, 5, 7, 8], Reason("why"))
    assert "why: 0–2, 5, 7–8" in Page(replace(REPORT, layers={"bn": PrunedLayer(9, 6, 0, held)}).to_html()).text


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = {**REPORT.layers, "$x_{1$": PrunedLayer(64, 30, 10)}  # no formula
    replace(REPORT, layers=names).plot(tmp_path / "channels.png")
    image = Image.open(tmp_path / "channels.png")
    assert image.format == "PNG"
    colors = {color for _, color in image.convert("RGB").getcolors(1 << 16) or []}
    assert {(0x2F, 0x6F, 0xB0), (0xD9, 0x8A, 0x1F), (0xCD, 0xD3, 0xDA)} <= colors
    taller = Image.open(io.BytesIO(replace(REPORT, layers={str(i): PrunedLayer(4, 0, 0) for i in range(60)}).to_png()))
    assert taller.height > 2 * image.height


def test_picture_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'goctconv\[plots\]'"):
        REPORT.plot(tmp_path / "channels.png")
    assert list(tmp_path.iterdir()) == []


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


def test_a_resnet50s_page_is_small() -> None:
    report = plan_pruning(resnet("resnet50"), torch.zeros(1, 3, 32, 32), ratio=0.3).report
    page = Page(report.to_html())
    assert len(report.to_html().encode()) < 300_000
    assert sum(tag == "svg" for tag, _ in page.tags) == 53 + 4
    assert "layer4.2.bn3" in page.text
