import re

import pytest
import torch
from PIL import Image

from goctconv.cli import main
from saliency.pictures import save


@pytest.fixture
def output(tmp_path):
    return tmp_path / "demo"


def test_made_up_pictures(output, files, capsys):
    state = torch.get_rng_state()
    arguments = ["demo", "--output", str(output), "--model", "test_csnet", "--images", "3", "--size", "64"]
    assert main(arguments) == 0
    assert torch.equal(torch.get_rng_state(), state)
    names = [f"{folder}/000{index}.png" for folder in ("maps", "masks", "photographs") for index in (1, 2, 3)]
    assert files(output) == ["index.html", *names]
    for index in (1, 2, 3):
        sizes = set()
        for folder in ("maps", "masks", "photographs"):
            with Image.open(output / folder / f"000{index}.png") as image:
                sizes.add(image.size)
        assert len(sizes) == 1
    page = (output / "index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 12
    said = capsys.readouterr().out
    for text in (page, said):
        assert "mean nothing" in text
        assert "--weights FILE" in text
        assert "--pretrained --accept-license cc-by-nc-sa-4.0" in text
    assert str(output / "index.html") in said


def test_the_page_needs_nothing_else(output):
    assert main(["demo", "-o", str(output), "--model", "test_csnet", "--images", "1", "--size", "32"]) == 0
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)', page))
    assert not re.search(r"https?://|url\(|@import|<link", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_the_seed_decides(tmp_path):
    maps = []
    for index, seed in enumerate(("0", "0", "1")):
        output = tmp_path / str(index)
        options = ["--model", "test_csnet", "--images", "2", "--size", "32", "--seed", seed]
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
    assert files(output) == ["index.html", "maps/a.png", "maps/b.png", "maps/sub/a.png"]


def test_names_are_escaped(tmp_path, output):
    save(tmp_path / "data" / "<i>&.png")
    options = ["--model", "test_csnet", "--size", "32"]
    assert main(["demo", "--data", str(tmp_path / "data"), "-o", str(output), *options]) == 0
    assert "&lt;i&gt;&amp;" in (output / "index.html").read_text(encoding="utf-8")


def test_errors(tmp_path, photographs, output, capsys):
    for arguments, message in (
        (["--data", tmp_path / "none"], "no such folder"),
        (["--data", photographs, "-o", photographs / "notes.txt"], "this is a file"),
        (["--model", "csnet_x9"], "csnet_x1"),
        (["--weights", tmp_path / "none.pth"], "there is no such file"),
    ):
        assert main(["demo", "--images", "1", "-o", str(output), *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").touch()
    assert main(["demo", "--data", str(tmp_path / "bad"), "-o", str(output)]) == 2
    assert "no photograph in it can be read" in capsys.readouterr().err
