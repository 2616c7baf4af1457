import os
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from goctconv.cli import main
from goctconv.models import create_model
from goctconv.saliency import cutout, grey_map, overlay, predict
from goctconv.saliency.inference import _network as network
from goctconv.saliency.inference._network import probabilities
from saliency.pictures import gradient, png_of_declared_size, save


@pytest.fixture
def maps(tmp_path):
    return tmp_path / "maps"


def expected_map(path, weights):
    model = create_model("test_csnet", checkpoint_path=weights)
    return predict(model, [path], size=32)[0]


def test_folder(photographs, maps, model_options, weights, files, capsys):
    assert main(["predict", str(photographs), "-o", str(maps), *model_options]) == 0
    assert files(maps) == ["a.png", "b.png", "sub/a.png"]
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith(f"3 maps written to {maps} in ")
    with Image.open(maps / "b.png") as image:
        assert (image.mode, image.size, image.format) == ("L", (21, 33), "PNG")
        expected = grey_map(expected_map(photographs / "b.JPG", weights))
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def test_threshold_cutout_and_overlay(tmp_path, maps, model_options, weights, files):
    path = save(tmp_path / "a.png", gradient(40, 50))
    probability = expected_map(path, weights)
    threshold = float(np.median(probability))
    options = ["--threshold", str(threshold), "--cutout", "--overlay", "--quiet"]
    assert main(["predict", str(path), "-o", str(maps), *model_options, *options]) == 0
    assert files(maps) == ["a.png", "a_cutout.png", "a_overlay.png"]
    with Image.open(maps / "a.png") as image:
        grey = np.array(image)
    assert set(np.unique(grey)) == {0, 255}
    assert ((grey == 255) == (probability > threshold)).mean() > 0.99
    photograph = Image.fromarray(gradient(40, 50))
    for name, picture in (("a_cutout", cutout(photograph, grey)), ("a_overlay", overlay(photograph, grey))):
        with Image.open(maps / f"{name}.png") as image:
            assert image.mode == picture.mode
            np.testing.assert_array_equal(np.asarray(image), np.asarray(picture))


def test_maps_do_not_depend_on_batches_and_workers(photographs, tmp_path, model_options):
    results = []
    for index, options in enumerate((["--batch-size", "1", "--workers", "1"], ["--batch-size", "5", "--workers", "4"])):
        output = tmp_path / str(index)
        assert main(["predict", str(photographs), "-o", str(output), *model_options, *options, "--quiet"]) == 0
        with Image.open(output / "sub" / "a.png") as image:
            results.append(np.asarray(image).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_broken_files_are_named_and_the_others_done(photographs, maps, model_options, files, capsys):
    (photographs / "empty.jpg").touch()
    (photographs / "cut.png").write_bytes((photographs / "a.png").read_bytes()[:60])
    (photographs / "bomb.png").write_bytes(png_of_declared_size(60_000, 60_000))
    assert main(["predict", str(photographs), "-o", str(maps), *model_options]) == 1
    assert files(maps) == ["a.png", "b.png", "sub/a.png"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for name, what in (("empty.jpg", "empty"), ("cut.png", "image data"), ("bomb.png", "3,600,000,000 pixels")):
        assert sum(name in line and what in line for line in lines) == 1
    assert lines[-1].startswith(f"3 maps written to {maps} (3 failed) in ")


def test_max_pixels(photographs, maps, model_options, capsys):
    assert main(["predict", str(photographs), "-o", str(maps), *model_options, "--max-pixels", "600"]) == 1
    assert "33 = 693 pixels, but max_pixels is 600" in capsys.readouterr().err
    assert (maps / "a.png").exists()


def test_quiet_says_nothing_but_errors(photographs, maps, model_options, capsys):
    assert main(["predict", str(photographs), "-o", str(maps), *model_options, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    (photographs / "empty.jpg").touch()
    assert main(["predict", str(photographs), "-o", str(maps), *model_options, "--quiet"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_rerun_replaces_the_maps(photographs, model_options, files):
    output = photographs / "maps"  # inside of what is read: its maps are not photographs
    for _ in range(2):
        assert main(["predict", str(photographs), "-o", str(output), *model_options]) == 0
    assert files(output) == ["a.png", "b.png", "sub/a.png"]


def test_upright(tmp_path, maps, model_options):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = save(tmp_path / "a.jpg", gradient(20, 30), exif=exif)
    assert main(["predict", str(path), "-o", str(maps), *model_options, "--overlay"]) == 0
    for name in ("a.png", "a_overlay.png"):
        with Image.open(maps / name) as image:
            assert image.size == (20, 30)


def test_a_rerun_of_a_pattern(photographs, model_options, files):
    (photographs / "notes.txt").unlink()
    (photographs / "sub" / "a.png").rename(photographs / "sub" / "c.png")
    output = photographs / "maps"
    for _ in range(2):
        assert main(["predict", str(photographs / "*"), "-o", str(output), *model_options]) == 0
    assert files(output) == ["a.png", "b.png", "sub/c.png"]


def test_missing_files_fail_alone(photographs, maps, model_options, files, capsys):
    arguments = [str(photographs / "missing.jpg"), str(photographs / "a.png"), "x" * 300]
    assert main(["predict", *arguments, "-o", str(maps), *model_options]) == 1
    assert files(maps) == ["a.png"]
    missing, long_name, summary = capsys.readouterr().err.splitlines()
    assert missing == f"goctconv: {arguments[0]}: there is no such file or folder: check the path"
    assert long_name.startswith("goctconv: xxx")
    assert summary.startswith(f"1 map written to {maps} (2 failed) in ")


def test_nothing_at_all(tmp_path, maps, capsys):
    fails([tmp_path / "a.jpg", tmp_path / "b", "-o", maps], "a.jpg: there is no", "\n" + str(tmp_path), capsys=capsys)


@pytest.mark.skipif(os.name != "posix", reason="the file system refuses such names")
def test_control_characters_in_names(tmp_path, maps, model_options, capsys):
    (tmp_path / "a\n\x1b[31m\udc80.jpg").touch()
    assert main(["predict", str(tmp_path), "-o", str(maps), *model_options]) == 1
    said = capsys.readouterr().err
    assert f"goctconv: {tmp_path}/a\\n\\x1b[31m\\udc80.jpg: the file is empty" in said
    assert len(said.splitlines()) == 2
    assert said.replace("\n", "").isprintable()


def fails(arguments, *messages, capsys):
    assert main(["predict", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("goctconv: error: ")
    assert "Traceback" not in captured.err
    for message in messages:
        assert message in captured.err


def test_without_weights(photographs, maps, capsys):
    others = ["--model", "csnet_x2_l"]
    fails([photographs, "-o", maps, *others], "untrained csnet_x2_l mean", "--weights", "--pretrained", capsys=capsys)
    assert not maps.exists()


@pytest.mark.parametrize("pretrained", [[], ["--pretrained"]])
def test_weights_that_come_with_the_package(photographs, maps, pretrained, tmp_path, files, capsys, monkeypatch):
    """Where nothing else is named, one line says so; nothing is fetched, and no consent is asked for."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)
    assert main(["predict", str(photographs), "-o", str(maps), *pretrained]) == 0
    said = capsys.readouterr().err
    assert said.count("weights: csnet_x1_l.distilled (apache-2.0), which come with goctconv") == (not pretrained)
    assert files(maps) == ["a.png", "b.png", "sub/a.png"]
    assert not (tmp_path / "cache").exists()


def test_without_output(photographs, model_options, capsys):
    fails([photographs, *model_options], "-o DIR", capsys=capsys)


def test_wrong_weights(photographs, maps, weights, tmp_path, capsys):
    fails([photographs, "-o", maps, "--weights", tmp_path / "no.pth"], "no.pth: there is no such file", capsys=capsys)
    fails([photographs, "-o", maps, "--weights", photographs / "notes.txt"], "notes.txt", capsys=capsys)
    fails([photographs, "-o", maps, "--model", "csnet_x1l", "--weights", weights], "csnet_x1_l", capsys=capsys)


def test_pretrained_without_consent(photographs, maps, capsys, monkeypatch):
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)
    options = ["--pretrained", "--model", "csnet_x2_l"]
    fails([photographs, "-o", maps, *options], "cc-by-nc-sa-4.0", capsys=capsys)


def test_unknown_device(photographs, maps, model_options, capsys):
    for device in ("gpu", "meta"):
        options = [*model_options, "--device", device]
        fails([photographs, "-o", maps, *options], f"--device {device}", "try --device cpu", capsys=capsys)


def test_consent_that_is_not_needed(photographs, maps, model_options, capsys):
    options = [*model_options, "--accept-license", "cc-by-nc-sa-4.0"]
    fails([photographs, "-o", maps, *options], "--accept-license goes with --pretrained", capsys=capsys)


@pytest.mark.parametrize("size", ["99999999", "9999999999x9999999999"])
def test_sizes_beyond_memory(photographs, maps, model_options, size, capsys):
    fails([photographs, "-o", maps, *model_options, "--size", size], f"--size {size[:8]}", "memory", capsys=capsys)


def test_batches_beyond_memory(photographs, maps, model_options, monkeypatch, capsys):
    def allocate(*_):
        torch.empty(10**14)

    monkeypatch.setattr(network, "probabilities", allocate)
    fails([photographs, "-o", maps, *model_options], "lower --batch-size or --size\n", capsys=capsys)


def test_photographs_keep_their_size(photographs, maps, model_options, weights, monkeypatch):
    sizes = []

    def note(model, pixels):
        sizes.append([image.shape for image in pixels])
        return probabilities(model, pixels)

    monkeypatch.setattr(network, "probabilities", note)
    assert main(["predict", str(photographs), "-o", str(maps), *model_options, "--size", "own"]) == 0
    assert sizes == [[(3, 32, 32)], [(3, 33, 32)], [(3, 32, 32)]]
    (own,) = predict(create_model("test_csnet", checkpoint_path=weights), [photographs / "b.JPG"], size="own")
    with Image.open(maps / "b.png") as image:
        difference = np.abs(np.asarray(image, dtype=float) - grey_map(own, own.shape).astype(float))
    assert difference.max() <= 1  # the deployed network rounds differently


def test_batch_size(photographs, maps, model_options, monkeypatch):
    sizes = []

    def count(model, pixels):
        sizes.append(len(pixels))
        return probabilities(model, pixels)

    monkeypatch.setattr(network, "probabilities", count)
    assert main(["predict", str(photographs), "-o", str(maps), *model_options, "--batch-size", "2"]) == 0
    assert sizes == [2, 1]


def test_untrained_weights_that_overflow(photographs, maps, tmp_path, capsys):
    model = create_model("test_csnet")
    torch.nn.init.constant_(next(iter(model.parameters())), float("nan"))
    torch.save(model.state_dict(), tmp_path / "nan.pth")
    options = ["--model", "test_csnet", "--weights", tmp_path / "nan.pth", "--size", "32"]
    fails([photographs, "-o", maps, *options], "not a number", "--weights FILE", capsys=capsys)
    evaluated = ["evaluate", "--images", str(photographs), "--masks", str(photographs), "--resize"]
    for command in (evaluated, ["demo", "--images", "1", "-o", str(maps)]):
        assert main([*command, *map(str, options)]) == 2
        said = capsys.readouterr().err
        assert "not a number (NaN)" in said
        assert "calibrate_batch_norm" not in said


def test_cures_are_those_of_the_command_line(photographs, maps, weights, capsys):
    for options, message in (
        (
            ["--model", "csnet_x1", "--pretrained"],
            "--pretrained cannot be used, as no weights were released .* --weights FILE",
        ),
        (["--model", "csnet_x9", "--weights", weights], "there are csf, .*csnet_x1, csnet_x1_2"),
    ):
        assert main(["predict", str(photographs), "-o", str(maps), *map(str, options)]) == 2
        said = capsys.readouterr().err
        assert re.search(message, said)
        assert not re.search("checkpoint_path|pretrained=|list_models", said)


def test_tensors_that_do_not_fit(photographs, maps, weights, tmp_path, capsys):
    state = torch.load(weights, weights_only=True)
    names = list(state)[:7]
    torch.save({name: value for name, value in state.items() if name not in names}, tmp_path / "part.pth")
    options = ["--model", "test_csnet", "--weights", str(tmp_path / "part.pth")]
    assert main(["predict", str(photographs), "-o", str(maps), *options]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"goctconv: error: the weights in {tmp_path / 'part.pth'} do not fit test_csnet:"
    missing = [name for name in names if not name.endswith("num_batches_tracked")]
    listed = ", ".join(missing[:5])
    more = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
    assert said[1:] == [f"  {len(missing)} tensors missing: {listed}{more}"]


@pytest.mark.parametrize(
    "option",
    [
        ("--size", "31"),
        ("--size", "2x3x4"),
        ("--size", "big"),
        ("--batch-size", "0"),
        ("--threshold", "127"),
        ("--workers", "x"),
        ("--batch-size", "9999999999999999999"),
    ],
)
def test_wrong_values(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["predict", "a.jpg", "-o", "maps", *option])
    assert caught.value.code == 2
    assert option[1] in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_output(photographs, maps, model_options, capsys):
    maps.mkdir(mode=0o500)
    assert main(["predict", str(photographs), "-o", str(maps), *model_options]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_failed_writes_leave_nothing(photographs, maps, model_options, files, monkeypatch, capsys):
    def disk_full(_, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("goctconv.cli._predict_run.save_png", disk_full)
    maps.mkdir()
    (maps / "a.png").write_bytes(b"the old map")
    assert main(["predict", str(photographs), "-o", str(maps), *model_options]) == 1
    assert files(maps) == ["a.png"]
    assert (maps / "a.png").read_bytes() == b"the old map"
    assert "No space left on device" in capsys.readouterr().err


def test_interruption(photographs, maps, model_options, files, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("goctconv.saliency.inference._network.probabilities", interrupt)
    assert main(["predict", str(photographs), "-o", str(maps), *model_options]) == 130
    assert capsys.readouterr().err == "goctconv: interrupted: 0 maps of 3 written\n"
    assert not maps.exists() or files(maps) == []


def test_interruption_counts_the_files_that_are_there(photographs, maps, model_options, files, monkeypatch, capsys):
    calls = []

    def interrupt(model, pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            while not maps.exists() or len(files(maps)) < 2:
                time.sleep(0.01)
            raise KeyboardInterrupt
        return probabilities(model, pixels)

    monkeypatch.setattr(network, "probabilities", interrupt)
    options = [*model_options, "--batch-size", "1", "--workers", "2"]
    assert main(["predict", str(photographs), "-o", str(maps), *options]) == 130
    assert files(maps) == ["a.png", "b.png"]
    assert capsys.readouterr().err == "goctconv: interrupted: 2 maps of 3 written\n"


def test_a_photograph_that_changes_meanwhile(tmp_path, maps, model_options, monkeypatch, capsys):
    path = save(tmp_path / "a.png")
    original = network.probabilities

    def change(*arguments):
        save(path, gradient(5, 5))
        return original(*arguments)

    monkeypatch.setattr(network, "probabilities", change)
    assert main(["predict", str(path), "-o", str(maps), *model_options, "--cutout"]) == 1
    assert "changed its size" in capsys.readouterr().err


PEAKS = """
import resource, sys
from goctconv.cli import main

for folder in sys.argv[1:3]:
    assert main(["predict", folder, "-o", f"{folder}_maps", "--quiet", "--workers", "2", *sys.argv[3:]]) == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in KiB, as Linux does")
def test_memory_does_not_grow_with_the_number_of_files(tmp_path, model_options):
    """Fifty photographs more, of 4.3 MiB each once decoded, take less than ten of them."""
    first = save(tmp_path / "photograph.jpg", gradient(1000, 1500))
    for name, count in (("few", 10), ("many", 60)):
        (tmp_path / name).mkdir()
        for number in range(count):
            shutil.copy(first, tmp_path / name / f"{number}.jpg")
    folders = [str(tmp_path / name) for name in ("few", "many")]
    command = [sys.executable, "-c", PEAKS, *folders, *model_options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert len(list((tmp_path / "many_maps").iterdir())) == 60
    assert many - few < 40 << 10
