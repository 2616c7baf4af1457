"""The SVG is well-formed, accessible, safe, and follows light and dark; files are the same each time."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from goctconv import ArgumentError
from goctconv.report import Picture, channel_widths, complexity, learning_curves
from goctconv.report._theme import look_of

from .pictures import HOSTILE, ROWS, SVG, axes_of, every_picture, parsed, svg_of, texts, tips

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
    svg = svg_of(HOSTILE_PICTURES[kind])
    svg.encode()  # no lone surrogates
    root = parsed(HOSTILE_PICTURES[kind])
    known = {
        "svg",
        "title",
        "desc",
        "style",
        "defs",
        "pattern",
        "rect",
        "path",
        "text",
        "g",
        "use",
        "clipPath",
        "tspan",
    }
    assert {part.tag.removeprefix(SVG) for part in root.iter()} <= known
    assert not [key for part in root.iter() for key in part.attrib if key.startswith("on")]
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "alert(1)" in "".join(root.itertext())  # as text it is there


def test_names_are_written_as_they_are() -> None:
    """What is made smaller and coloured is the drawing, not the text of the user."""
    name = '#0068a8 <g id="figure_1"> 0.12345 $x^2$'
    picture = channel_widths({"a": {name: 3, "b": 4}}, title=name)
    assert name in texts(picture)
    assert f"{name}, a: 3" in tips(picture)


@pytest.mark.parametrize("kind", PICTURES)
def test_everything_is_inside(kind: str) -> None:
    root = parsed(PICTURES[kind])
    left, top, width, height = map(float, root.get("viewBox", "").split())
    for part in root.iter():
        if part.tag in {f"{SVG}text", f"{SVG}rect"} and part.get("class") != "n":
            coordinates = {key: float(part.get(key, 0)) for key in ("x", "y", "width", "height")}
            assert all(math.isfinite(value) for value in coordinates.values())
            if part.get("x"):
                assert left <= coordinates["x"] + 4
                assert coordinates["x"] + coordinates["width"] <= left + width + 4
                assert top <= coordinates["y"] + 4
                assert coordinates["y"] + coordinates["height"] <= top + height + 4
    assert "nan" not in re.sub(r"<(title|desc).*?</\1>", "", svg_of(PICTURES[kind]))


@pytest.mark.parametrize("kind", PICTURES)
def test_every_colour_is_one_of_the_theme(kind: str) -> None:
    svg = svg_of(PICTURES[kind])
    drawing = re.sub(r"<style>.*?</style>", "", svg)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", drawing) == []
    used = set(re.findall(r"var\(--([\w-]+)\)", drawing))
    light, dark = re.findall(r"\{(--[^}]*)\}", svg)
    for mode in (light, dark):
        assert used <= set(re.findall(r"--([\w-]+):", mode))
    assert light != dark


def tip_boxes(picture: Picture) -> dict[str, tuple[float, float]]:
    """The lower end and height of what tells a value, by tooltip."""
    found = {}
    for part in parsed(picture).iter(f"{SVG}rect"):
        tip = part.find(f"{SVG}title")
        if tip is not None:
            y, height = float(part.get("y", 0)), float(part.get("height", 0))
            found[str(tip.text)] = (y + height, height)
    return found


def test_bars_tell_their_values_where_they_are() -> None:
    found = tip_boxes(channel_widths({"a": {"one": 40, "two": 10}, "b": {"one": 20, "two": 0}}))
    assert list(found) == ["one, a: 40", "two, a: 10", "one, b: 20", "two, b: 0"]
    ends, heights = zip(*found.values(), strict=True)
    assert len({round(end, 1) for end in ends[:3]}) == 1
    assert [round(height / heights[0], 2) for height in heights[:3]] == [1, 0.25, 0.5]


def test_points_tell_their_values() -> None:
    assert tips(learning_curves({"mine": ROWS}, ["loss"]))[:2] == ["mine, epoch 1: 1", "mine, epoch 2: 0.5"]


def line_paths(picture: Picture) -> list[str]:
    paths = [part.get("d", "") for part in parsed(picture).iter(f"{SVG}path") if "clip-path" in part.attrib]
    return [path for path in paths if "z" not in path and path.count("L") + path.count("M") >= 1]


def test_nan_is_a_gap_and_what_was_not_measured_is_none() -> None:
    gap = line_paths(learning_curves({"mine": {"loss": [4, 3, math.nan, 2, 1]}}, ["loss"]))[-1]
    assert (gap.count("M"), gap.count("L")) == (2, 2)
    whole = line_paths(learning_curves({"mine": {"loss": [4, None, 3, None, 1]}}, ["loss"]))[-1]
    assert (whole.count("M"), whole.count("L")) == (1, 2)


def test_a_single_point_is_a_point() -> None:
    assert tips(learning_curves({"mine": {"epoch": [3], "loss": [0.5]}}, ["loss"])) == ["mine, epoch 3: 0.5"]


def test_many_points_have_a_few_markers_and_the_last_one() -> None:
    picture = learning_curves({"mine": {"loss": list(range(1000))}}, ["loss"])
    assert len(tips(picture)) <= 41
    assert tips(picture)[-1] == "mine, epoch 1000: 999"
    assert svg_of(picture).count("<use") <= 41 + len(axes_of(picture)[0].get_xticks())


def test_series_differ_without_colour() -> None:
    looks = [look_of(series)[1:] for series in range(12)]
    assert len({(look[0], look[1]) for look in looks}) == 12


def test_the_legend_hides_nothing() -> None:
    runs = {f"a run with a long name {index}": {"loss": [index, index + 1]} for index in range(7)}
    figure = learning_curves(runs, ["loss"]).to_figure()
    figure.draw_without_rendering()
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(runs)
    assert axes is not None
    assert not legend.overlaps(axes)
    assert figure.bbox.containsx(legend.x1)


def test_long_names_are_shortened_and_headings_wrapped() -> None:
    picture = channel_widths({"mine": {"backbone." * 20: 3}}, title="a heading " * 12)
    assert max(len(text) for text in texts(picture)) < 60
    assert sum("heading" in text for text in texts(picture)) >= 2


def test_labels_of_points_do_not_overlap() -> None:
    crowd = [(1e5 * (1 + index / 1000), 0.9, f"net {index}") for index in range(20)]
    (axes,) = axes_of(complexity({"mine": crowd}))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 1 <= len(boxes) < 20
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    assert len([tip for tip in tips(complexity({"mine": crowd})) if tip.startswith("net")]) == 20


def test_a_file_has_a_background_and_an_element_has_none() -> None:
    picture = PICTURES["complexity"]
    assert "background" in picture.to_svg(standalone=True)
    assert "background" not in picture.to_svg()
    assert picture._repr_svg_() == picture.to_svg(standalone=True)


def test_pictures_on_a_page_do_not_share_identifiers() -> None:
    page = "".join(svg_of(picture) for picture in PICTURES.values())
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers)) > 10
    assert set(re.findall(r"(?:url\(|href=\")#([^\")]+)", page)) <= set(identifiers)


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_picture_has_the_same_bytes(ending: str, tmp_path: Path) -> None:
    for name in "ab":
        every_picture()["gamma_over_time"].save(tmp_path / f"{name}.{ending}")
    first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in "ab")
    assert first == second
    assert first.startswith({"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}[ending])


def test_without_matplotlib_pictures_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = complexity({"mine": [(1, 2)]})
    assert picture.description.startswith("max F against parameters")
    for draw in (picture.to_svg, picture.to_figure, lambda: picture.save(tmp_path / "picture.png")):
        with pytest.raises(ImportError, match=r"pip install 'goctconv\[plots\]'"):
            draw()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["picture", "picture.docx"])
def test_unknown_endings_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must be a name that ends in one of .*\.png") as caught:
        PICTURES["complexity"].save(tmp_path / name)
    assert caught.value.argument == "path"
    assert not list(tmp_path.iterdir())


def test_pyplot_and_the_settings_of_matplotlib_are_left_alone() -> None:
    import matplotlib as mpl  # noqa: PLC0415

    before = dict(mpl.rcParams)
    PICTURES["complexity"].to_svg()
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
