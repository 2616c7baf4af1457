import io
import re
import sys

import pytest
import torch
from PIL import Image

import goctconv
from goctconv.cli import main
from goctconv.cli.demo import _show as demo_show
from goctconv.models import create_model
from goctconv.saliency import calibrate_batch_norm, predict, preprocess, synthetic_images
from reference.conditioning import calibrated
from saliency.pictures import gradient, save

SHOW = ["demo", "--no-learn", "--model", "test_csnet"]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "demo"


def test_made_up_pictures(output, files, capsys):
    state = torch.get_rng_state()
    arguments = [
        "demo",
        "--no-learn",
        "--output",
        str(output),
        "--model",
        "test_csnet",
        "--images",
        "3",
        "--size",
        "64",
    ]
    assert main(arguments) == 0
    assert torch.equal(torch.get_rng_state(), state)
    names = [f"{folder}/000{index}.png" for folder in ("images", "maps", "masks") for index in (1, 2, 3)]
    assert files(output) == sorted(["report.html", *names])
    for index in (1, 2, 3):
        sizes = set()
        for folder in ("images", "maps", "masks"):
            with Image.open(output / folder / f"000{index}.png") as image:
                sizes.add(image.size)
        assert len(sizes) == 1
    page = re.sub("</?span>", "", (output / "report.html").read_text(encoding="utf-8"))
    assert page.count("<img ") == 12
    said = capsys.readouterr().out
    for text in (page, said):
        assert "mean nothing" in text
        assert "--weights FILE" in text
        assert "--pretrained --accept-license cc-by-nc-sa-4.0" in text
    assert str(output / "report.html") in said


def test_the_page_needs_nothing_else(output):
    assert main([*SHOW, "-o", str(output), "--images", "1", "--size", "32"]) == 0
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)', page))
    assert not re.search(r"https?://|url\(|@import|<link", page)
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page


def test_the_seed_decides(tmp_path):
    maps = []
    for index, seed in enumerate(("0", "0", "1")):
        output = tmp_path / str(index)
        options = ["--no-learn", "--model", "test_csnet", "--images", "2", "--size", "32", "--seed", seed]
        assert main(["demo", "-o", str(output), *options]) == 0
        maps.append((output / "maps" / "0001.png").read_bytes())
    assert maps[0] == maps[1] != maps[2]


def test_own_photographs_and_weights(photographs, output, model_options, files, capsys):
    (photographs / "bad<b>.jpg").write_bytes(b"x")
    assert main(["demo", "--data", str(photographs), "-o", str(output), *model_options]) == 1
    captured = capsys.readouterr()
    assert "bad<b>.jpg" in captured.err
    assert "mean nothing" not in captured.out
    assert "tiny.pth" in captured.out
    assert files(output) == ["maps/a.png", "maps/b.png", "maps/sub/a.png", "report.html"]


def test_names_are_escaped(tmp_path, output):
    save(tmp_path / "data" / "<i>&.png")
    options = ["--no-learn", "--model", "test_csnet", "--size", "32"]
    assert main(["demo", "--data", str(tmp_path / "data"), "-o", str(output), *options]) == 0
    assert "&lt;i&gt;&amp;" in (output / "report.html").read_text(encoding="utf-8")


def test_names_that_standard_output_cannot_encode(tmp_path, photographs, model_options, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["demo", "--data", str(photographs), "-o", str(tmp_path / "dé"), *model_options]) == 0
    assert rb"d\xe9" in stdout.buffer.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="the file system refuses such names")
def test_names_that_are_no_text(tmp_path, output, model_options, files):
    save(tmp_path / "data" / "caf\udce9.png")
    assert main(["demo", "--data", str(tmp_path / "data"), "-o", str(output), *model_options]) == 0
    assert files(output) == ["maps/caf\udce9.png", "report.html"]
    assert "caf\ufffd" in (output / "report.html").read_text(encoding="utf-8")


def test_seeds_beyond_64_bits(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--seed", "99999999999999999999999"])
    assert "99999999999999999999999" in capsys.readouterr().err


def test_pictures_are_taken_as_they_are_needed(output, monkeypatch):
    taken, seen = [], []

    def pictures(count, _):
        for index in range(count):
            taken.append(index)
            yield Image.fromarray(gradient(8, 9)), Image.new("L", (9, 8))

    def look(*arguments, **options):
        seen.append(len(taken))
        return predict(*arguments, **options)

    monkeypatch.setattr(demo_show, "synthetic_images", pictures)
    monkeypatch.setattr(demo_show, "predict", look)
    assert main([*SHOW, "-o", str(output), "--images", "35", "--size", "32"]) == 0
    assert seen == [32] * 32 + [33, 34, 35]


def test_an_untrained_network_is_calibrated(output, monkeypatch):
    used = []

    def look(model, *arguments, **options):
        used.append(model)
        return predict(model, *arguments, **options)

    monkeypatch.setattr(demo_show, "predict", look)
    assert main([*SHOW, "-o", str(output), "--images", "5", "--size", "32"]) == 0
    torch.manual_seed(0)
    expected = create_model("test_csnet")
    inputs = torch.cat([preprocess(photograph, 32) for photograph, _ in synthetic_images(5, 0)])
    calibrate_batch_norm(expected, inputs.split(4))
    torch.testing.assert_close(used[0].state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_not_enough_memory(output, monkeypatch, capsys):
    def exhausted(*_, **__):
        torch.empty(10**14)

    monkeypatch.setattr(demo_show, "predict", exhausted)
    assert main([*SHOW, "-o", str(output), "--images", "1", "--size", "32"]) == 2
    assert capsys.readouterr().err.startswith("goctconv: error: there is not enough memory: lower --size")


def test_errors(tmp_path, photographs, output, capsys):
    for arguments, message in (
        (["--data", tmp_path / "none"], "no such folder"),
        (["--data", photographs, "-o", photographs / "notes.txt"], "this is a file"),
        (["--model", "csnet_x9"], "csnet_x1"),
        (["--weights", tmp_path / "none.pth"], "there is no such file"),
    ):
        assert main(["demo", "--no-learn", "--images", "1", "-o", str(output), *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").touch()
    assert main(["demo", "--no-learn", "--data", str(tmp_path / "bad"), "-o", str(output)]) == 2
    assert "no photograph in it can be read" in capsys.readouterr().err


def test_rotated_photographs(tmp_path, output):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 40), "teal").save(photographs / "turned.jpg", exif=exif)
    arguments = ["demo", "--data", str(photographs), "-o", str(output), "--model", "test_csnet", "--size", "32"]
    arguments.append("--no-learn")
    assert main(arguments) == 0
    with Image.open(output / "maps" / "turned.png") as image:
        assert image.size == (40, 50)


def test_weights_are_named_with_their_network(tmp_path, output, capsys):
    model = goctconv.create_model("test_csnet")
    torch.manual_seed(0)
    calibrated(model, torch.randn(4, 3, 64, 64))
    torch.save(model.state_dict(), tmp_path / "own.pth")
    arguments = ["demo", "-o", str(output), "--model", "csnet_x1", "--images", "1", "--size", "64"]
    assert main([*arguments, "--weights", str(tmp_path / "own.pth")]) == 0
    page = (output / "report.html").read_text(encoding="utf-8")
    for text in (page, capsys.readouterr().out):
        assert "a network of 6,395 parameters" in text
        assert "csnet_x1" not in text
        assert "mean nothing" not in text
    assert 'class="note"' in page
    assert main([*arguments, "--accept-license", "cc-by-nc-sa-4.0"]) == 2


def test_saved_networks_are_shown_as_they_are(tmp_path, output, monkeypatch):
    model = create_model("test_csnet")
    calibrate_batch_norm(model, [torch.randn(4, 3, 64, 64)])
    model.save_pretrained(tmp_path / "saved")
    used = []

    def look(network, *arguments, **options):
        used.append(network)
        return predict(network, *arguments, **options)

    monkeypatch.setattr(demo_show, "predict", look)
    arguments = ["--model", f"local-dir:{tmp_path / 'saved'}", "--images", "1", "--size", "64"]
    assert main(["demo", "-o", str(output), *arguments]) == 0
    torch.testing.assert_close(used[0].state_dict(), model.state_dict(), rtol=0, atol=0)
    assert "mean nothing" not in (output / "report.html").read_text(encoding="utf-8")
