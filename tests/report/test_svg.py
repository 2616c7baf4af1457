"""The SVG is well-formed, accessible, safe, and drawn to scale."""

from __future__ import annotations

import math
import re

import pytest

from goctconv.report import plots

from .pictures import HOSTILE, ROWS, SVG, every_picture, parsed, texts, tips

PICTURES = every_picture()
HOSTILE_PICTURES = every_picture(HOSTILE)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("standalone", [False, True])
def test_it_is_accessible_and_as_wide_as_there_is_room(kind: str, standalone: bool) -> None:
    root = parsed(PICTURES[kind], standalone=standalone)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert standalone == ("width" in root.attrib) == ("height" in root.attrib)  # an element takes what room there is
    assert len(root.get("viewBox", "").split()) == 4
    named = [part.text for key in root.get("aria-labelledby", "").split() for part in root if part.get("id") == key]
    assert named == [PICTURES[kind].title, PICTURES[kind].description]


@pytest.mark.parametrize("kind", HOSTILE_PICTURES)
def test_names_cannot_break_out(kind: str) -> None:
    svg = HOSTILE_PICTURES[kind].to_svg()
    svg.encode()  # no lone surrogates
    root = parsed(HOSTILE_PICTURES[kind])
    known = {"svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text", "g"}
    assert {part.tag.removeprefix(SVG) for part in root.iter()} <= known
    assert not [key for part in root.iter() for key in part.attrib if key.startswith("on")]
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "alert(1)" in "".join(root.itertext())  # as text it is there


@pytest.mark.parametrize("kind", PICTURES)
def test_everything_is_inside(kind: str) -> None:
    root = parsed(PICTURES[kind])
    left, top, width, height = map(float, root.get("viewBox", "").split())
    body = [part for part in root if part.tag not in {f"{SVG}defs", f"{SVG}style"}]
    for part in (inner for outer in body for inner in outer.iter() if "transform" not in outer.attrib):
        coordinates = {key: float(part.get(key, 0)) for key in ("x", "y", "width", "height")}
        assert all(math.isfinite(value) for value in coordinates.values())
        assert left <= coordinates["x"] <= coordinates["x"] + coordinates["width"] <= left + width
        assert top <= coordinates["y"] <= coordinates["y"] + coordinates["height"] <= top + height
    assert "nan" not in re.sub(r"<(title|desc).*?</\1>", "", PICTURES[kind].to_svg())


def bars(picture: plots.Picture) -> dict[str, tuple[float, float]]:
    """The lower end and height of bars by tooltip."""
    found = {}
    for part in parsed(picture).iter(f"{SVG}rect"):
        tip = part.find(f"{SVG}title")
        if tip is not None:
            found[str(tip.text)] = (
                float(part.get("y", 0)) + float(part.get("height", 0)),
                float(part.get("height", 0)),
            )
    return found


def test_bars_are_to_scale_and_tell_their_values() -> None:
    found = bars(plots.channel_widths({"a": {"one": 40, "two": 10}, "b": {"one": 20, "two": 0}}))
    assert list(found) == ["one, a: 40", "two, a: 10", "one, b: 20", "two, b: 0"]
    ends, heights = zip(*found.values(), strict=True)
    assert len(set(ends)) == 1
    assert [round(height / heights[0], 3) for height in heights] == [1, 0.25, 0.5, 0]


def test_points_tell_their_values() -> None:
    assert tips(plots.learning_curves({"mine": ROWS}, ["loss"]))[:2] == ["mine, epoch 1: 1", "mine, epoch 2: 0.5"]


def line_paths(picture: plots.Picture) -> list[str]:
    paths = [part for part in parsed(picture) if part.tag == f"{SVG}path" and "l c" in part.get("class", "")]
    return [part.get("d", "") for part in paths]


def test_nan_is_a_gap_and_what_was_not_measured_is_none() -> None:
    (gap,) = line_paths(plots.learning_curves({"mine": {"loss": [4, 3, math.nan, 2, 1]}}, ["loss"]))
    assert gap.count("M") == 2
    (whole,) = line_paths(plots.learning_curves({"mine": {"loss": [4, None, 3, None, 1]}}, ["loss"]))
    assert (whole.count("M"), whole.count("L")) == (1, 2)


def test_a_single_point_is_a_point() -> None:
    picture = plots.learning_curves({"mine": {"epoch": [3], "loss": [0.5]}}, ["loss"])
    assert line_paths(picture) == []
    assert tips(picture) == ["mine, epoch 3: 0.5"]


def test_many_points_have_a_few_markers_and_the_last_one() -> None:
    picture = plots.learning_curves({"mine": {"loss": list(range(1000))}}, ["loss"])
    assert len(tips(picture)) <= 41
    assert tips(picture)[-1] == "mine, epoch 1000: 999"


def test_series_differ_without_colour() -> None:
    runs = {f"run {index}": {"loss": [index, index + 1]} for index in range(12)}
    root = parsed(plots.learning_curves(runs, ["loss"]))
    samples = [part for part in root if part.tag == f"{SVG}g"]
    looks = {(part[0].get("stroke-dasharray"), part[1].get("d")) for part in samples}
    assert len(looks) == 12


def test_the_legend_is_above_what_is_drawn() -> None:
    runs = {f"a run with a long name {index}": {"loss": [index, index + 1]} for index in range(7)}
    root = parsed(plots.learning_curves(runs, ["loss"]))
    legend = [float(part.get("transform", "").split()[1][:-1]) for part in root if part.tag == f"{SVG}g"]
    heights = [float(number) for path in line_paths(plots.learning_curves(runs, ["loss"])) for number in
               re.findall(r"[ML][\d.]+ ([\d.]+)", path)]  # fmt: skip
    assert len(legend) == 7
    assert max(legend) < min(heights)


def test_long_names_are_shortened_and_headings_wrapped() -> None:
    picture = plots.channel_widths({"mine": {"backbone." * 20: 3}}, title="a heading " * 12)
    assert max(len(text) for text in texts(picture)) < 60
    assert sum("heading" in text for text in texts(picture)) >= 2


def test_labels_of_points_do_not_overlap() -> None:
    crowd = [(1e5 * (1 + index / 1000), 0.9, f"net {index}") for index in range(20)]
    shown = [text for text in texts(plots.complexity({"mine": crowd})) if text.startswith("net")]
    assert 1 <= len(shown) < 20
    assert len([tip for tip in tips(plots.complexity({"mine": crowd})) if tip.startswith("net")]) == 20


def test_a_file_has_a_background_and_an_element_has_none() -> None:
    picture = PICTURES["complexity"]
    assert "--paper" in picture.to_svg(standalone=True)
    assert "--paper" not in picture.to_svg()
    assert "prefers-color-scheme:dark" in picture.to_svg()
    assert picture._repr_html_() == picture.to_svg()


def test_the_same_picture_has_the_same_text() -> None:
    assert every_picture()["gamma_over_time"].to_svg() == PICTURES["gamma_over_time"].to_svg()
