import re
import subprocess
import sys
import types

import pytest

import goctconv
from goctconv.cli import main
from goctconv.cli._main import COMMANDS
from goctconv.cli._messages import printable, say, tell
from goctconv.cli._progress import plural, progress


@pytest.mark.parametrize("arguments", [["--help"], *([command.name, "--help"] for command in COMMANDS), ["--version"]])
def test_help_and_version(arguments, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "88")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith((f"goctconv {goctconv.__version__}", "usage: goctconv"))
    assert max(map(len, text.splitlines())) <= 88


def test_without_a_command_help_is_shown(capsys):
    assert main([]) == 0
    assert "predict" in capsys.readouterr().out


def test_unknown_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["predictt"])
    assert caught.value.code == 2
    assert "predict" in capsys.readouterr().err


class Bar:
    def __init__(self, **options):
        self.options, self.steps, self.lines = options, 0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self):
        self.steps += 1

    def write(self, text, file):
        self.lines.append((text, file))


def test_a_bar_on_terminals_only(monkeypatch, capsys):
    bars = []

    def make(**options):
        bars.append(Bar(**options))
        return bars[-1]

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=make))
    with progress(3, quiet=False) as shown:
        shown.step()
        shown.line("plain")
    assert not bars
    assert capsys.readouterr().err == "plain\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(3, quiet=False) as shown:
        shown.step()
        shown.line("above")
    assert (bars[0].steps, bars[0].lines, bars[0].options["total"]) == (1, [("above", sys.stderr)], 3)
    with progress(3, quiet=True):
        assert len(bars) == 1


def test_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(3, quiet=False) as shown:
        shown.step()
        shown.line("plain")
    assert capsys.readouterr().err == "plain\n"


def test_without_standard_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with progress(3, quiet=False) as shown:
        shown.line("nowhere")
    assert capsys.readouterr().out == ""


def test_help_needs_neither_timm_nor_pillow():
    code = "import sys; from goctconv.cli._main import *; build_parser(); print({'timm', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_names_are_printable():
    assert printable("café 一.jpg") == "café 一.jpg"
    assert printable("a\n\r\t\x1b\x9b\u202e\udce9") == r"a\n\r\t\x1b\x9b\u202e\udce9"


def test_messages_do_not_steer_the_terminal(capsys):
    say("a\nb\x1b")
    tell("a\nb\x1b")
    assert capsys.readouterr() == ("a\nb\\x1b\n", "a\\nb\\x1b\n")


def test_plural():
    assert [plural(count, "map") for count in (0, 1, 2)] == ["0 maps", "1 map", "2 maps"]


def test_an_option_that_there_is_not_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, hint in (("--epoch", r"did you mean --epochs\?"), ("--learning-rate", "goctconv learn has no --learn")):
        with pytest.raises(SystemExit, match="2"):
            main(["learn", "photographs", wrong, "3"])
        error = capsys.readouterr().err
        assert re.search(hint, error)
        assert "goctconv learn --help lists" in error
