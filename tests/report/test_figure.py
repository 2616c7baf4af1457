"""With matplotlib, the same is drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from goctconv.report import plots

from .pictures import FADING, HOSTILE, ROWS, every_picture

PICTURES = every_picture("$mine$")


@pytest.mark.parametrize("kind", PICTURES)
def test_every_picture_can_be_drawn(kind: str, tmp_path: Path) -> None:
    PICTURES[kind].save(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert len(PICTURES[kind].to_figure().axes) == len(PICTURES[kind].panels)


def test_lines_have_the_values() -> None:
    (loss, mae) = plots.learning_curves({"mine": ROWS}).to_figure().axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(row["epoch"], row["loss"]) for row in ROWS])
    np.testing.assert_allclose(mae.lines[0].get_ydata(), [row["mae"] for row in ROWS if row["mae"] is not None])
    assert loss.get_ylabel() == "loss"


def test_bars_have_the_values() -> None:
    (axes,) = plots.channel_widths({"a": {"one": 40, "two": 10}, "b": {"one": 20, "two": 5}}).to_figure().axes
    assert [[bar.get_height() for bar in group] for group in axes.containers] == [[40, 10], [20, 5]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "two"]


def test_cells_cover_what_is_not_empty() -> None:
    picture = plots.gamma_over_time(FADING)
    (axes,) = picture.to_figure().axes
    (cells,) = (mark for mark in picture.panels[0].marks if hasattr(mark, "shares"))
    filled = sum(share > 0 for column in cells.shares for share in column)
    assert len([patch for patch in axes.patches if np.isfinite(patch.get_xy()).all()]) == filled


def test_hostile_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    figure = every_picture(HOSTILE.replace("\x00", ""))["learning_curves"].to_figure()
    figure.savefig(tmp_path / "picture.svg")
    assert "alert(1)" in figure.get_suptitle()


def test_svg_needs_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = PICTURES["complexity"]
    picture.save(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(ImportError, match=r"pip install 'goctconv\[plots\]'"):
        picture.save(tmp_path / "picture.png")


@pytest.mark.parametrize("name", ["picture", "picture.docx"])
def test_unknown_endings_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.svg, or one of .*\.png"):
        PICTURES["complexity"].save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_pyplot_is_left_alone() -> None:
    PICTURES["complexity"].to_figure()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
