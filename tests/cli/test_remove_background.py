"""``goctconv remove-background``: files, formats, backgrounds and what is said of them."""

import io
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from goctconv.cli import main
from goctconv.saliency import Predictor, refine_cutout
from saliency.pictures import encode, gradient, save


def square(level=0.9):
    probability = np.zeros((32, 32), np.float32)
    probability[8:24, 8:24] = level
    return probability


@pytest.fixture(autouse=True)
def maps(monkeypatch):
    """Have every network see a square in the middle, or nothing in photographs that are black."""

    def infer(_, pixels):
        return [square() if np.ptp(image[0]) else square(0.2) for image in pixels]

    monkeypatch.setattr(Predictor, "infer", infer)


@pytest.fixture
def run(model_options):
    def run(*arguments):
        return main(["remove-background", *map(str, arguments), *model_options])

    return run


def opened(path):
    with Image.open(path) as image:
        image.load()
    return image


def test_a_folder(run, photographs, tmp_path, files, capsys):
    assert run(photographs, "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["a.png", "b.png", "sub/a.png"]
    assert f"3 cut-outs written to {tmp_path / 'out'} in " in capsys.readouterr().err
    picture = opened(tmp_path / "out" / "a.png")
    expected = refine_cutout(photographs / "a.png", square()).image
    assert (picture.format, picture.mode) == ("PNG", "RGBA")
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))


def test_the_default_folder(run, photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(photographs / "a.png") == 0
    assert opened(tmp_path / "cutouts" / "a.png").size == (30, 20)
    assert "1 cut-out written to cutouts/a.png in " in capsys.readouterr().err


@pytest.mark.parametrize(("name", "form"), [("x.PNG", "PNG"), ("x.webp", "WEBP"), ("x.jpeg", "JPEG")])
def test_a_file(run, photographs, tmp_path, name, form):
    background = ["--background", "#00ff00"] if form == "JPEG" else []
    assert run(photographs / "a.png", "-o", tmp_path / "new" / name, *background) == 0
    picture = opened(tmp_path / "new" / name)
    assert (picture.format, picture.size) == (form, (30, 20))
    assert picture.mode == ("RGB" if background else "RGBA")


@pytest.mark.parametrize(
    ("arguments", "mode", "corner"),
    [
        (["--background", "blue"], "RGB", (0, 0, 255)),
        (["--background", "picture.png"], "RGB", (9, 8, 7)),
        (["--blur-background"], "RGB", None),
        (["--mask"], "L", 0),
        (["--refine", "none"], "RGBA", (0, 0, 0, 0)),
        (["--threshold", "0.95"], "RGBA", (0, 0, 0, 0)),
    ],
)
def test_results(run, photographs, tmp_path, monkeypatch, arguments, mode, corner):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "picture.png", np.full((5, 5, 3), (9, 8, 7), np.uint8))
    assert run(photographs / "a.png", "-o", "x.png", *arguments) == 0
    picture = opened("x.png")
    assert (picture.mode, picture.size) == (mode, (30, 20))
    assert corner is None or picture.getpixel((0, 0)) == corner


@pytest.mark.parametrize("options", [[], ["--mask"]])
def test_crop(run, photographs, tmp_path, options):
    assert run(photographs / "a.png", "-o", tmp_path / "x.png", "--crop", *options) == 0
    left, top, right, bottom = refine_cutout(photographs / "a.png", square()).box
    assert opened(tmp_path / "x.png").size == (right - left, bottom - top) != (30, 20)


def test_json(run, photographs, tmp_path, capsys):
    save(photographs / "black.png", np.zeros((20, 30, 3), np.uint8))
    (photographs / "empty.jpg").touch()
    assert run(photographs, "-o", tmp_path, "--json") == 1
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line["input"].rpartition("/")[2] for line in lines] == ["a.png", "b.JPG", "black.png", "a.png"]
    cutout = refine_cutout(photographs / "a.png", square())
    expected = {"width": 30, "height": 20, "box": list(cutout.box), "has_object": 0.9}
    assert expected.items() <= lines[0].items()
    assert lines[0]["area"] == pytest.approx(cutout.area, abs=1e-6)
    assert lines[0]["output"] == str(tmp_path / "a.png")
    assert (lines[2]["box"], lines[2]["area"], lines[2]["has_object"]) == (None, 0, 0.2)
    assert "black.png: no object was found (has_object 0.20)" in told.err
    assert "empty.jpg" in told.err
    assert "4 cut-outs written" in told.err


def test_skip_existing(run, photographs, tmp_path, capsys):
    old = save(tmp_path / "out" / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert run(photographs, "-o", tmp_path / "out", "--skip-existing") == 0
    assert opened(old).size == (2, 2)
    assert "2 cut-outs written" in (told := capsys.readouterr().err)
    assert "(1 already there)" in told


@pytest.fixture
def piped(run, monkeypatch):
    """Run with a photograph on standard input, and return the status and what is on standard output."""

    def piped(*arguments):
        stdin = types.SimpleNamespace(buffer=io.BytesIO(encode(Image.fromarray(gradient(20, 30)))))
        stdout = types.SimpleNamespace(buffer=io.BytesIO(), isatty=lambda: False)
        with monkeypatch.context() as patch:  # here, as pytest replaces them between fixtures and tests
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", stdout)
            return run(*arguments), stdout.buffer.getvalue()

    return piped


def test_standard_streams(piped, photographs):
    status, data = piped("-")
    assert status == 0
    expected = np.asarray(refine_cutout(gradient(20, 30), square()).image)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)
    status, data = piped(photographs / "a.png", "-o", "-", "--format", "webp")
    assert status == 0
    assert Image.open(io.BytesIO(data)).format == "WEBP"


def test_standard_input_to_a_file(piped, tmp_path):
    assert piped("-", "-o", tmp_path / "x.png") == (0, b"")
    assert opened(tmp_path / "x.png").size == (30, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", "-o", "x.png"], "is for one photograph, but there are 3"),
        (["{folder}/a.png", "-o", "{folder}/a.png"], "would overwrite the photograph"),
        (["{folder}", "--format", "jpg"], "JPEG has no transparency"),
        (["{folder}", "--mask", "--blur-background"], "--mask has no background"),
        (["{folder}/a.png", "-o", "x.png", "--format", "webp"], "another format than --format webp"),
        (["{folder}", "--background", "no such"], "neither a colour nor a file"),
        (["{folder}", "--background", "none.png"], "--background none.png: there is no such file"),
        (["-", "-o", "folder"], 'the result of "-" has no name'),
        (["-", "{folder}/a.png"], "give no other INPUT"),
        (["-", "--json"], "standard output takes the picture or --json"),
        (["{folder}/none.png"], "there is no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_said(piped, photographs, tmp_path, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(tmp_path)
    assert piped(*(argument.format(folder=photographs) for argument in arguments)) == (2, b"")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cutouts").exists()
