import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goctconv.cli import main
from saliency.pictures import encode, gradient


class Standard:
    def __init__(self, data=b"", terminal=False):
        self.buffer = io.BytesIO(data)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def run(monkeypatch, model_options):
    def run(*arguments, data=None, terminal=False):
        data = encode(Image.fromarray(gradient())) if data is None else data
        stdout = Standard(terminal=terminal)
        monkeypatch.setattr(sys, "stdin", Standard(data))
        monkeypatch.setattr(sys, "stdout", stdout)
        return main(["predict", "-", *arguments, *model_options]), stdout.buffer.getvalue()

    return run


@pytest.mark.parametrize(("arguments", "mode"), [((), "L"), (("--cutout",), "RGBA"), (("--overlay",), "RGB")])
def test_the_picture_asked_for(run, arguments, mode):
    status, data = run(*arguments)
    assert status == 0
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", mode, (53, 37))


def test_threshold(run):
    with Image.open(io.BytesIO(run("--threshold", "0.5")[1])) as image:
        assert set(np.unique(np.asarray(image))) <= {0, 255}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.jpg",), "give no other INPUT"),
        (("-o", "maps"), "drop -o"),
        (("--cutout", "--overlay"), "choose --cutout or --overlay"),
    ],
)
def test_contradictions(run, arguments, message, capsys):
    assert run(*arguments) == (2, b"")
    assert message in capsys.readouterr().err


def test_not_to_a_terminal(run, capsys):
    assert run(terminal=True) == (2, b"")
    assert "redirect" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"nothing", encode(Image.fromarray(gradient()))[:90]])
def test_broken_input(run, data, capsys):
    assert run(data=data) == (1, b"")
    assert capsys.readouterr().err.startswith("goctconv: standard input: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["predict", "-"], ["info"]])
def test_a_full_disk(command, model_options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Standard(encode(Image.fromarray(gradient()))))
    arguments = [*command, "test_csnet"] if command == ["info"] else [*command, *model_options]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(arguments) == 2
    assert capsys.readouterr().err == ("goctconv: error: standard output cannot be written (No space left on device)\n")


@pytest.mark.parametrize(("stream", "name"), [("stdin", "standard input"), ("stdout", "standard output")])
def test_closed_streams(stream, name, model_options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Standard())
    monkeypatch.setattr(sys, stream, None)
    assert main(["predict", "-", *model_options]) == 2
    assert capsys.readouterr().err.startswith(f"goctconv: error: {name} is closed")


def test_input_that_cannot_be_read(monkeypatch, model_options, capsys):
    class Folder(io.RawIOBase):
        buffer = property(lambda self: self)

        def read(self, count):  # noqa: ARG002
            raise IsADirectoryError(21, "Is a directory")

    monkeypatch.setattr(sys, "stdin", Folder())
    assert main(["predict", "-", *model_options]) == 2
    assert capsys.readouterr().err == "goctconv: error: standard input cannot be read (Is a directory)\n"


def test_a_real_process(model_options):
    command = [sys.executable, "-W", "error", "-m", "goctconv", "predict", "-", *model_options]
    data = encode(Image.fromarray(gradient()))
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.stderr == b""
    assert done.returncode == 0
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.size == (53, 37)


def test_input_without_an_end(monkeypatch, model_options, capsys):
    class Endless(Standard):
        taken = 0

        def read(self, count):
            self.taken += count
            assert count >= 0
            return bytes(count)

    stdin = Endless()
    stdin.buffer = stdin
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", Standard())
    assert main(["predict", "-", *model_options, "--max-pixels", "1000"]) == 2
    assert "standard input has more than 67,116,864 bytes" in capsys.readouterr().err
    assert stdin.taken < 70 << 20
