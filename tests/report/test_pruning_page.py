"""The page of a pruning has every layer and every reason, needs nothing else, and stays small."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import timm
import torch
from torch import nn

from goctconv.pruning import PruningReport, Reason, plan_pruning
from goctconv.pruning._report import PrunedLayer
from goctconv.report import pruning_page

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

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def bars(self) -> list[str | None]:
        """What the bars of the layers say."""
        return [attributes["aria-label"] for _, attributes in self.tags if attributes.get("role") == "img"]


def test_page() -> None:
    source = pruning_page(REPORT)
    page = Page(source)
    for expected in ("102 of 105", "bn1", "16 → 14", "2,048 → 1,948", "keep names bn1: 3", "3.0e-07", "12.50", "Notes"):
        assert expected in page.text
    order = [page.text.index(part) for part in ("bytes of activations", "Why masked channels stay", "Notes", "Layers")]
    assert order == sorted(order)
    assert page.bars() == [
        "11 live, 3 masked that stay, 2 removed",
        "1,948 live, 0 masked that stay, 100 removed",
        "8 live, 0 masked that stay, 0 removed",
    ]
    assert "script" not in {tag for tag, _ in page.tags}
    assert "prefers-color-scheme:dark" in source
    assert not re.search(r"https?:|url\(|src=|href=", source)


def test_bars_are_as_long_as_layers_are_wide() -> None:
    source = pruning_page(
        replace(REPORT, layers={"a": PrunedLayer(50, 20, 10, dict.fromkeys(range(10), Reason("why")))})
    )
    (bar,) = re.findall(r'<span class="bar" role="img"[^>]*>(.*?)</span>', source)
    assert re.findall(r'class="(\w+)" style="width:([\d.]+)%"', bar) == [
        ("live", "60.00"),
        ("held", "20.00"),
        ("gone", "20.00"),
    ]


def test_page_has_every_place_of_a_reason() -> None:
    held = {channel: Reason("live", f"layer{channel % 20}.conv1") for channel in range(50)}
    notes = [f"new bias: layer{index}.conv1.bias" for index in range(30)]
    page = Page(pruning_page(replace(REPORT, layers={"bn": PrunedLayer(64, 50, 0, held)}, notes=notes)))
    why, _, rest = page.text.partition("Why masked channels stay")[2].partition("Notes")
    assert why.strip().startswith("50it is live where … reads it: layer0.conv1 (3), layer1.conv1 (3), 18 more")
    assert all(f"layer{index}.conv1 ({2 if index >= 10 else 3})" in why for index in range(20))
    assert all(note.removeprefix("new bias: ") in rest.partition("Layers")[0] for note in notes)
    assert sum(tag == "details" for tag, _ in page.tags) == 2  # the places, and the layer


def test_page_opens_a_layer_as_a_whole_row() -> None:
    source = pruning_page(REPORT)
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
    report = replace(REPORT, layers={name: PrunedLayer(4, 1, 0, {0: Reason("live", name)})})
    source = pruning_page(report, name)
    assert f"<code>{shown}</code>" in source
    assert f"it is live where {shown} reads it" in source
    assert f"<h1>{shown}</h1>" in source


def test_page_escapes_names() -> None:
    layers = {"<b>&\"'": PrunedLayer(4, 2, 1, {0: Reason("<script>alert(1)</script>")})}
    source = pruning_page(replace(REPORT, layers=layers, notes=["<i>"]), "<u>")
    assert {tag for tag, _ in Page(source).tags}.isdisjoint({"b", "script", "u"})
    assert "&lt;i&gt;" in source
    assert "&lt;script&gt;" in source


def test_page_without_layers() -> None:
    assert "Layers" not in Page(pruning_page(PruningReport({}, (0, 0), (0, 0), (0, 0)))).text


def test_page_of_runs_of_channels() -> None:
    held = dict.fromkeys([0, 1, 2, 5, 7, 8], Reason("why"))
    assert "why: 0–2, 5, 7–8" in Page(pruning_page(replace(REPORT, layers={"bn": PrunedLayer(9, 6, 0, held)}))).text


def test_a_resnet50s_page_is_small() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet50").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.05, 1.35)
            nn.init.normal_(module.bias, 0, 0.3)
    report = plan_pruning(model, torch.zeros(1, 3, 32, 32), ratio=0.3).report
    source = pruning_page(report)
    page = Page(source)
    assert len(source.encode()) < 300_000
    assert len(page.bars()) == 53
    assert "layer4.2.bn3" in page.text
