import csv
import importlib.util
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from goctconv.cli import main
from goctconv.saliency import find_pairs, grey_map, predict
from goctconv.saliency.metrics import METRICS, Protocol, SaliencyMetrics, get_protocol
from saliency.encodings import ENCODINGS
from saliency.pictures import gradient, save

SIZES = {"a": (20, 30), "b": (33, 21), "c": (15, 16)}


@pytest.fixture
def data_set(tmp_path):
    return make_data_set(tmp_path / "Birds")


def make_data_set(folder, seed=0):
    """Photographs and masks: grey ellipses with soft edges."""
    rng = np.random.default_rng(seed)
    for name, (height, width) in SIZES.items():
        save(folder / "images" / f"{name}.png", gradient(height, width))
        y, x = np.indices((height, width)) - rng.uniform(6, 10, (2, 1, 1))
        save(folder / "masks" / f"{name}.png", np.clip(300 - 4 * (x**2 + y**2), 0, 255).astype(np.uint8))
    return folder


@pytest.fixture
def maps(tmp_path, data_set):
    """Maps that are about right, one folder per data set."""
    rng = np.random.default_rng(1)
    for path in sorted((data_set / "masks").iterdir()):
        mask = np.asarray(Image.open(path)).astype(float)
        save(tmp_path / "maps" / path.name, (0.7 * mask + rng.uniform(0, 76, mask.shape)).astype(np.uint8))
    return tmp_path / "maps"


def expected(maps, masks, protocol="paper", metrics=None):
    result = SaliencyMetrics(protocol, metrics)
    for path in sorted(maps.iterdir()):
        pair = [torch.from_numpy(np.array(Image.open(folder / path.name))) for folder in (maps, masks)]
        result.update(*pair)
    return result.compute()


def row(output, name):
    cells = {line.split()[0]: line.split() for line in output.splitlines()}
    return cells[name]


@pytest.mark.parametrize("protocol", ["paper", "pysodmetrics"])
def test_two_folders(data_set, maps, tmp_path, capsys, protocol):
    report = tmp_path / "out" / "scores.json"
    arguments = ["--predictions", str(maps), "--masks", str(data_set / "masks"), "--protocol", protocol]
    assert main(["evaluate", *arguments, "--json", str(report)]) == 0
    scores = expected(maps, data_set / "masks", protocol)
    output = capsys.readouterr()
    assert output.err == ""
    table = output.out.splitlines()
    assert table[0].split("  ")[0] == "data set"
    assert all(name in table[0] for name in METRICS.values())
    assert row(output.out, "Birds") == ["Birds", "3", *(f"{value:.4f}" for value in scores.scores().values())]
    assert f"protocol {get_protocol(protocol)}" in output.out
    (found,) = json.loads(report.read_text())["data_sets"]
    assert (found["name"], found["images"], found["missing"], found["extra"]) == ("Birds", 3, [], [])
    assert found["scores"] == pytest.approx(scores.scores(), abs=1e-12)
    assert found["curves"]["f"] == pytest.approx(scores.curves.f, abs=1e-12)
    assert Protocol(**found["protocol"]) == get_protocol(protocol)


def test_a_model_on_data_sets(data_set, tmp_path, model_options, weights, capsys):
    from goctconv import create_model  # noqa: PLC0415  (timm loads slowly, and one test needs it)

    others = make_data_set(tmp_path / "Cats", seed=5)
    report = tmp_path / "scores.json"
    arguments = [str(data_set), str(others), "--device", "cpu", "--batch-size", "2", *model_options]
    assert main(["evaluate", *arguments, "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["model"] == {"name": "test_csnet", "weights": str(weights), "size": [32, 32]}
    assert [one["name"] for one in found["data_sets"]] == ["Birds", "Cats"]
    model = create_model("test_csnet", checkpoint_path=weights).eval()
    for one in found["data_sets"]:
        pairs = find_pairs(one["source"]).pairs
        metrics = SaliencyMetrics()
        for pair, probability in zip(pairs, predict(model, [pair.image for pair in pairs], size=32), strict=True):
            mask = np.array(Image.open(pair.mask))
            metrics.update(torch.from_numpy(grey_map(probability)), torch.from_numpy(mask))
        assert one["scores"] == pytest.approx(metrics.compute().scores(), abs=1e-3)  # batches round otherwise
    assert {"Birds", "Cats"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_photographs_and_masks(data_set, model_options, capsys):
    folders = ["--images", str(data_set / "images"), "--masks", str(data_set / "masks")]
    assert main(["evaluate", *folders, "--device", "cpu", *model_options]) == 0
    one = row(capsys.readouterr().out, "Birds")
    assert main(["evaluate", str(data_set), "--device", "cpu", *model_options]) == 0
    assert row(capsys.readouterr().out, "Birds") == one


def test_predictions_of_data_sets(data_set, maps, tmp_path, capsys):
    others = make_data_set(tmp_path / "Cats")
    sorted_maps = tmp_path / "sorted"
    for name in ("Birds", "Cats"):
        for path in maps.iterdir():
            save(sorted_maps / name / path.name, np.array(Image.open(path)))
    assert main(["evaluate", str(data_set), "--predictions", str(maps)]) == 0
    alone = row(capsys.readouterr().out, "Birds")
    assert main(["evaluate", str(data_set), str(others), "--predictions", str(sorted_maps)]) == 0
    output = capsys.readouterr().out
    assert row(output, "Birds") == alone
    assert row(output, "Cats")[1:] == alone[1:]
    assert main(["evaluate", str(data_set), str(others), "--predictions", str(maps)]) == 2
    assert "there is no subfolder Birds in it" in capsys.readouterr().err


def test_predictions_of_a_list(data_set, maps, capsys):
    lines = [f"images/{name}.png masks/{name}.png" for name in SIZES]
    (data_set / "pairs.lst").write_text("\n".join([*lines, "images/d.png masks/d.png"]))
    assert main(["evaluate", str(data_set / "pairs.lst"), "--predictions", str(maps)]) == 1
    output = capsys.readouterr()
    assert row(output.out, "pairs")[1] == "3"
    assert "pairs: 2 images missing, left out: " in output.err


def test_missing_and_extra_files(data_set, maps, tmp_path, capsys):
    (maps / "a.png").rename(maps / "z.png")
    arguments = ["evaluate", "--predictions", str(maps), "--masks", str(data_set / "masks")]
    assert main([*arguments, "--json", str(tmp_path / "scores.json")]) == 1
    output = capsys.readouterr()
    assert row(output.out, "Birds")[1] == "2"
    assert f"Birds: 1 image missing, left out: {data_set / 'masks' / 'a.png'}" in output.err
    assert f"Birds: 1 extra file: {maps / 'z.png'}" in output.err
    (found,) = json.loads((tmp_path / "scores.json").read_text())["data_sets"]
    assert (found["missing"], found["extra"]) == ([str(data_set / "masks" / "a.png")], [str(maps / "z.png")])
    save(maps / "a.png", np.array(Image.open(maps / "z.png")))
    assert main([*arguments, "--quiet"]) == 0  # what is extra leaves nothing out
    assert capsys.readouterr().err == ""


def test_other_sizes(data_set, maps, capsys):
    path = maps / "b.png"
    save(path, np.array(Image.open(path).resize((10, 12))))
    arguments = ["evaluate", "--predictions", str(maps), "--masks", str(data_set / "masks")]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert f"1 map of another size than the mask: {path} is 10 x 12, its mask 21 x 33: pass --resize" in message
    assert main([*arguments, "--resize"]) == 0
    assert row(capsys.readouterr().out, "Birds")[1] == "3"


def test_a_model_and_masks_of_other_sizes(data_set, model_options, capsys):
    path = data_set / "masks" / "b.png"
    save(path, np.array(Image.open(path).resize((42, 66))))
    arguments = ["evaluate", str(data_set), "--device", "cpu", *model_options]
    assert main(arguments) == 2
    assert "b.png is 21 x 33, its mask 42 x 66" in capsys.readouterr().err
    assert main([*arguments, "--resize"]) == 0
    assert row(capsys.readouterr().out, "Birds")[1] == "3"


@pytest.mark.parametrize("with_model", [False, True])
def test_broken_files(data_set, maps, model_options, capsys, with_model):
    (data_set / "masks" / "b.png").write_bytes(b"not an image")
    ones = np.zeros(SIZES["c"], dtype=np.uint8)
    ones[3:5] = 1
    save(data_set / "masks" / "c.png", ones)
    more = ["--device", "cpu", *model_options] if with_model else ["--predictions", str(maps)]
    assert main(["evaluate", str(data_set), *more]) == 1
    output = capsys.readouterr()
    assert row(output.out, "Birds")[1] == "1"
    assert "b.png: this is not an image" in output.err
    assert re.search("c.png: the mask's highest value is 1, expected 0 to 255", output.err)
    assert main(["evaluate", str(data_set), "--foreground", "1,255", *more]) == 1
    assert row(capsys.readouterr().out, "Birds")[1] == "2"
    for name in ("a.png", "c.png"):
        (data_set / "masks" / name).write_bytes(b"")
    assert main(["evaluate", str(data_set), *more]) == 2
    assert "no image could be evaluated" in capsys.readouterr().err


def test_curves(data_set, maps, tmp_path, capsys):
    arguments = ["evaluate", str(data_set), "--predictions", str(maps)]
    assert main([*arguments, "--csv", str(tmp_path / "curves.csv"), "--metrics", "max_f, mean_e"]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == ["data", "set", "images", "max", "F", "mean", "E"]
    with (tmp_path / "curves.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    curves = expected(maps, data_set / "masks").curves
    assert list(rows[0]) == ["data_set", "protocol", "threshold", "precision", "recall", "f", "e"]
    assert {(one["data_set"], one["protocol"]) for one in rows} == {("Birds", "paper")}
    columns = {name: [float(one[name]) for one in rows] for name in ("precision", "recall", "f", "e")}
    assert [float(one["threshold"]) for one in rows] == list(range(256))
    for name, values in columns.items():
        assert values == pytest.approx(getattr(curves, name), abs=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra [plots]")
def test_plot(data_set, maps, tmp_path):
    picture, loaded = tmp_path / "curves.png", set(sys.modules)
    assert main(["evaluate", str(data_set), "--predictions", str(maps), "--plot", str(picture)]) == 0
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert "matplotlib.pyplot" not in set(sys.modules) - loaded


def test_page(data_set, maps, tmp_path):
    page = tmp_path / "scores.html"
    assert main(["evaluate", str(data_set), "--predictions", str(maps), "--report", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert all(part in text for part in ("Birds", "max F", "weighted F", "protocol paper", str(maps), "<svg"))
    assert "<script" not in text
    assert len(text) < 200_000


def test_without_matplotlib(data_set, maps, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else object())
    assert main(["evaluate", str(data_set), "--predictions", str(maps), "--plot", str(tmp_path / "p.png")]) == 2
    assert "pip install goctconv[plots]" in capsys.readouterr().err


def test_without_scipy(data_set, maps, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    arguments = ["evaluate", str(data_set), "--predictions", str(maps)]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "weighted F is left out: it needs scipy, pip install goctconv[eval]" in output.err
    assert "weighted F" not in output.out
    assert "adaptive F" in output.out
    assert main([*arguments, "--metrics", "weighted_f"]) == 2
    assert "pip install goctconv[eval]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to compare with"),
        (["D", "--masks", "M"], "not both"),
        (["D", "--images", "I"], "goes with --masks"),
        (["--masks", "M"], "--masks DIR goes with --predictions DIR (maps) or with --images DIR"),
        (["--masks", "M", "--predictions", "P", "--images", "I"], "--masks DIR goes with"),
        (["D", "--predictions", "P", "--weights", "W"], "give one of these"),
        (["none", "--predictions", "P"], "none: there is no such folder or list"),
        (["--masks", "none", "--predictions", "P"], "P: there is no such folder"),
        (["D", "--predictions", "P", "--protocol", "papers"], "did you mean 'paper'"),
        (
            ["D", "--predictions", "P", "--metrics", "fmax"],
            "fmax holds 'fmax', expected a list of some of max_f",
        ),
    ],
)
def test_wrong_arguments(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_weights(data_set, capsys):
    assert main(["evaluate", str(data_set), "--model", "csnet_x2"]) == 2
    assert "say where its weights are" in capsys.readouterr().err


def test_two_data_sets_of_one_name(data_set, tmp_path, model_options, capsys):
    twin = make_data_set(tmp_path / "elsewhere" / "Birds")
    assert main(["evaluate", str(data_set), str(twin), "--device", "cpu", *model_options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(data_set), str(twin)]


def test_files_that_cannot_be_written(data_set, maps, tmp_path, capsys):
    assert main(["evaluate", str(data_set), "--predictions", str(maps), "--json", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert "cannot be written" in output.err
    assert "Birds" in output.out


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in METRICS)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.slow
def test_the_released_weights(shared, tmp_path):
    report = tmp_path / "scores.json"
    weights = shared / "weights" / "csnet-L-x1.pth.tar"
    arguments = [str(shared / "data" / "ecssd_200"), "--weights", str(weights), "--device", "cpu"]
    assert main(["evaluate", *arguments, "--json", str(report)]) == 0
    (found,) = json.loads(report.read_text())["data_sets"]
    published = {"max_f": 0.9158, "mean_f": 0.8610, "mae": 0.0632}
    assert found["images"] == 200
    assert {name: found["scores"][name] for name in published} == pytest.approx(published, rel=0, abs=0.0005)


def test_maps_that_could_belong_to_several_masks_are_refused(tmp_path, capsys):
    for folder in ("a", "b"):
        save(tmp_path / folder / "1.jpg", gradient(20, 30))
        save(tmp_path / folder / "1.png", gradient(20, 30)[..., 0])
    (tmp_path / "pairs.lst").write_text("a/1.jpg a/1.png\nb/1.jpg b/1.png\n")
    maps = tmp_path / "maps"
    save(maps / "1.png", gradient(20, 30)[..., 0])
    assert main(["evaluate", str(tmp_path / "pairs.lst"), "--predictions", str(maps)]) == 2
    assert "could belong to a/1 or b/1" in capsys.readouterr().err
    (maps / "a").mkdir()
    (maps / "1.png").rename(maps / "a" / "1.png")
    assert main(["evaluate", str(tmp_path / "pairs.lst"), "--predictions", str(maps)]) == 1
    save(maps / "b" / "1.png", gradient(20, 30)[..., 0])
    assert main(["evaluate", str(tmp_path / "pairs.lst"), "--predictions", str(maps)]) == 0


def encoded(data_set, encode):
    """Write the masks of a data set anew."""
    for path in (data_set / "masks").iterdir():
        encode(np.asarray(Image.open(path)) > 128).save(path)


@pytest.mark.parametrize("name", ["P-voc", "RGB-red", "RGBA-black-on-nothing", "01"])
def test_masks_of_every_kind_score_the_same(data_set, maps, capsys, name):
    arguments = ["evaluate", str(data_set), "--predictions", str(maps)]
    encoded(data_set, ENCODINGS["L"])
    assert main(arguments) == 0
    expected = capsys.readouterr()
    assert expected.err == ""
    encoded(data_set, ENCODINGS[name])
    assert main(arguments) == 0
    found = capsys.readouterr()
    assert found.out == expected.out
    assert found.err.count("\n") == 1
    assert found.err.startswith("goctconv: Birds: masks: 3 ")
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == expected


def test_label_maps_are_told_of_the_option(data_set, maps, tmp_path, capsys):
    encoded(data_set, lambda where: Image.fromarray(where.astype(np.uint8) * 3))
    arguments = ["evaluate", str(data_set), "--predictions", str(maps), "--report", str(tmp_path / "page.html")]
    assert main([*arguments, "--plot", str(tmp_path / "curves.svg")]) == 1
    output = capsys.readouterr()
    assert "3 masks (a.png, b.png, c.png) have the grey values 0, 3, as label maps do" in output.err
    assert "such as --foreground 1,2" in output.err
    assert "every mask is empty" in output.err
    assert row(output.out, "Birds")[2:-1] == ["-"] * (len(row(output.out, "Birds")) - 3)
    assert "1.0000" not in output.out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "as label maps do" in page
    assert main([*arguments, "--foreground", "3"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", ["x", "-1", "1,,2", "70000"])
def test_foreground_that_is_none(data_set, capsys, value):
    with pytest.raises(SystemExit):
        main(["evaluate", str(data_set), "--predictions", "maps", f"--foreground={value}"])
    assert f"{value!r} is no list of values from 0 on, such as 1,2" in capsys.readouterr().err
