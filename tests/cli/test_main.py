import argparse
import re
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch

import goctconv.cli._main
from goctconv._checks import ArgumentError
from goctconv.cli import main
from goctconv.cli._command import spelling
from goctconv.cli._main import COMMANDS, load_command
from goctconv.cli._output import plural, printable, progress, say, tell


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS), ["--version"]])
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


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["predictt"], ["prune", "--ratio", "2"]])
def test_help_and_wrong_arguments_need_no_torch(arguments):
    code = (
        "import sys; from goctconv.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: sys.stdout = sys.__stdout__\n"
        "print({name for name in sys.modules if name in {'torch', 'timm', 'PIL'} or name == 'goctconv.cli._learn'},"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "set()"


def test_names_are_printable():
    assert printable("café 一.jpg") == "café 一.jpg"
    assert printable("a\n\r\t\x1b\x9b\u202e\udce9") == r"a\n\r\t\x1b\x9b\u202e\udce9"


def test_messages_do_not_steer_the_terminal(capsys):
    say("a\nb\x1b")
    tell("a\nb\x1b")
    assert capsys.readouterr() == ("a\nb\\x1b\n", "a\\nb\\x1b\n")


def test_plural():
    assert [plural(count, "map") for count in (0, 1, 2)] == ["0 maps", "1 map", "2 maps"]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("--epoch", r"did you mean --epochs\?"), ("--learning-rate", "goctconv learn has no --learn")],
)
def test_an_option_that_there_is_not_is_named_with_the_nearest(
    wrong: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["learn", "photographs", wrong, "3"])
    error = capsys.readouterr().err
    assert re.search(hint, error)
    assert "goctconv learn --help lists" in error


def test_errors_of_arguments_name_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-n", "--round-to", type=int)
    parser.add_argument("--weights")
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction)
    args = parser.parse_args(["slim"])
    args.parser, args.names = parser, {"checkpoint_path": "--weights", "example_inputs": "MODEL"}

    def text(*error, **more):
        return ArgumentError(*error, **more).text(spelling(args))

    assert text("round_to", 0, "an integer of at least 1", "leave {round_to} out") == (
        "--round-to 0 must be an integer of at least 1: leave --round-to out"
    )
    assert text("checkpoint_path", "a.pth", problem="is damaged", cure="pass {flip=False} or {groups=True}") == (
        "--weights a.pth is damaged: pass --no-flip or --groups"
    )
    assert text("groups", False, cure="pass {groups=False}", problem="is off") == "no --groups is off: pass no --groups"
    assert text("model", torch.nn.ReLU, problem="fails") == "MODEL slim fails"
    assert text("example_inputs", torch.zeros(2), problem="is one axis") == "MODEL is one axis"
    assert text("round_to", (1, 2), "one") == "--round-to 1,2 must be one"
    assert text("seed", 3, "less") == "seed=3 must be less"


def test_an_error_of_an_argument_ends_the_command(monkeypatch, capsys):
    def refuse(_):
        raise ArgumentError("batch_size", 3, "an even number", "pass {batch_size=4}")

    monkeypatch.setattr(goctconv.cli._main, "load_command", lambda name: replace(load_command(name), run=refuse))
    assert main(["predict", "cat.jpg"]) == 2
    assert capsys.readouterr().err == ("goctconv: error: --batch-size 3 must be an even number: pass --batch-size 4\n")
