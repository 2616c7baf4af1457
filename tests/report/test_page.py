"""The page holds everything, needs nothing else, and stays small."""

from __future__ import annotations

import base64
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from goctconv import ArgumentError
from goctconv.report import evaluation_page, training_page
from goctconv.saliency.metrics import SaliencyMetrics, SaliencyScores

from .pictures import HOSTILE, every_picture

VOID = {"meta", "img"}


class Tree(HTMLParser):
    """Checks that tags are closed in order, and keeps what they say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def example(side: int = 40, title: str = "0001") -> tuple[str, dict[str, np.ndarray]]:
    photograph = np.random.default_rng(0).integers(0, 256, (side, 2 * side, 3), dtype=np.uint8)
    return title, {"photograph": photograph, "before": photograph[..., 0], "after": photograph[..., 1]}


def test_it_says_what_it_was_given() -> None:
    page = training_page(
        "Learned",
        subtitle="csnet_x1",
        note="see `goctconv learn`",
        warning=True,
        numbers={"parameters": (210_985, 93_647), "MACs": (4.3e8, 2.8e8), "MAE": (None, 0.0758), "zero": (0, 0)},
        proof={"float64": 3.1e-15, "random input": 0},
        command="goctconv prune --threshold 1e-3",
        pictures=list(every_picture().values()),
        examples=[example()],
    )
    tree = Tree(page)
    for words in ("210,985", "93,647", "44.4 %", "430.0 M", "65.1 %", "0.0758", "3.10e-15", "--threshold", "csnet_x1"):
        assert words in tree.text
    assert "<code><span>goctconv</span> <span>learn</span></code>" in page
    assert [tag for tag, _ in tree.tags].count("svg") == len(every_picture())
    alts = [attributes["alt"] for tag, attributes in tree.tags if tag == "img"]
    assert alts == ["photograph of 0001", "before of 0001", "after of 0001"]


def test_it_needs_nothing_else() -> None:
    tree = Tree(training_page("Learned", pictures=list(every_picture().values()), examples=[example()]))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tree.tags}
    sources = [value for _, attributes in tree.tags for key, value in attributes.items() if key in {"src", "href"}]
    loaded = [str(source) for source in sources if not str(source).startswith("#")]  # the others are parts of itself
    assert len(loaded) == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in loaded)


def test_names_cannot_break_out() -> None:
    page = training_page(
        HOSTILE, subtitle=HOSTILE, note=HOSTILE, numbers={HOSTILE: (1, 2)}, proof={HOSTILE: 1}, command=HOSTILE,
        pictures=list(every_picture(HOSTILE).values()), examples=[example(title=HOSTILE)],
    )  # fmt: skip
    page.encode()
    assert "script" not in {tag for tag, _ in Tree(page).tags}


def test_thumbnails_shrink_until_the_page_is_small_enough() -> None:
    def sizes(page: str) -> set[tuple[int, int]]:
        encoded = re.findall(r"base64,([^\"]+)", page)
        return {Image.open(io.BytesIO(base64.b64decode(data))).size for data in encoded}

    examples = [example(300), example(300)]
    assert sizes(training_page("Learned", examples=examples)) == {(320, 160)}
    small = training_page("Learned", examples=examples, max_bytes=100_000)
    assert len(small.encode()) <= 100_000
    assert max(sizes(small)) < (320, 160)
    with pytest.raises(ArgumentError, match=r"max_bytes=10000 must be at least .*: pass fewer than 2 examples"):
        training_page("Learned", examples=examples, max_bytes=10_000)
    assert sizes(training_page("Learned", examples=examples, max_bytes=None)) == {(320, 160)}


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((4, 4)), ValueError, r"<ndarray \(4, 4\)> is of type float64"),
        (np.zeros((4, 4, 4), dtype=np.uint8), ValueError, r"expected .* uint8 and shape \(H, W, 3\) or \(H, W\)"),
        (np.zeros((0, 4), dtype=np.uint8), ValueError, r"<ndarray \(0, 4\)>"),
        ([[0]], TypeError, r"=\[\[0\]\] must be a NumPy array"),
    ],
)
def test_what_is_no_image_is_named(array: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        training_page("Learned", examples=[("0001", {"map": array})])
    assert caught.value.argument == "examples['0001']['map']"


def test_an_empty_page_is_one() -> None:
    assert Tree(training_page("Nothing yet")).text.count("Nothing yet") == 2


def test_the_page_of_every_picture_is_small() -> None:
    page = training_page("Learned", pictures=list(every_picture().values()))
    assert len(page.encode()) < 150_000
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page


def test_without_matplotlib_the_page_says_what_to_install_and_shows_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    pictures = list(every_picture().values())
    tree = Tree(training_page("Learned", numbers={"MAE": (0.2, 0.1)}, pictures=pictures, examples=[example()]))
    assert "svg" not in {tag for tag, _ in tree.tags}
    assert tree.text.count("pip install 'goctconv[plots]'") == len(pictures)
    assert all(picture.description in tree.text for picture in pictures)
    assert "50.0 %" in tree.text
    assert [tag for tag, _ in tree.tags].count("img") == 3


def scores() -> SaliencyScores:
    metrics = SaliencyMetrics(metrics=["max_f", "mae"])
    metrics.update(torch.tensor([[0.2, 0.9]]), torch.tensor([[False, True]]))
    return metrics.compute()


def test_the_page_of_an_evaluation_has_the_metrics_and_the_curves() -> None:
    page = evaluation_page({"Birds": scores(), HOSTILE: scores()}, title="csnet <x>", subtitle="weights a&b")
    tree = Tree(page)
    for words in (
        "csnet <x>",
        "weights a&b",
        "Birds",
        "max F",
        "MAE",
        f"{scores().mae:.4f}",
        "protocol paper",
        "precision by recall",
    ):
        assert words in tree.text
    assert [tag for tag, _ in tree.tags].count("svg") == 1
    assert "script" not in {tag for tag, _ in tree.tags}
    with pytest.raises(ArgumentError, match="at least one data set"):
        evaluation_page({})
