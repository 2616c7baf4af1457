"""Terminals that cannot show every character, output that cannot be written, empty arguments, and warnings."""

import io
import re
import sys
import warnings

import pytest
import torch

from goctconv._checks import ArgumentWarning, in_python
from goctconv.cli import main
from goctconv.cli._main import COMMANDS
from goctconv.cli._output import notes, say, tell
from goctconv.training import ProgressBar
from goctconv.training._callbacks import TrainingRun
from goctconv.training._history import EpochRecord


def terminal(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)


def shown(stream):
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_in_every_encoding(command, encoding, monkeypatch):
    stream = terminal(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert f"usage: goctconv {command}".strip() in shown(stream)
    assert ("\\u03bb" in shown(stream)) == (command in {"learn", "distill"})
    assert stream.errors == "strict"  # as before


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_results_and_messages_in_every_encoding(encoding, monkeypatch):
    out, error = terminal(encoding), terminal(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    assert main(["info", "γ-net"]) == 2
    tell("γ")
    assert "\\u03b3-net is no known model" in shown(error)
    assert shown(out) == "\\u03b3\n"


def test_lines_of_training_in_every_encoding():
    stream = terminal("cp1252")
    record = EpochRecord("train", 1, 0.5, 1e-4, 160, 8.0, 3, 1e-3, 64)
    ProgressBar(stream).on_epoch_end(TrainingRun(torch.nn.ReLU(), epochs=10), record)
    assert "3 of 64 \\u03b3 below 0.001" in shown(stream)


class Full(io.StringIO):
    def write(self, _):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_that_cannot_be_written_is_an_error(arguments, monkeypatch, capsys):
    monkeypatch.setattr("goctconv.cli._output.discard_stdout", lambda: None)
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(arguments) == 2
    assert "standard output cannot be written (No space left on device)" in capsys.readouterr().err


PATHS = {
    "predict": ["-o", "--output", "--weights", "--model"],
    "remove-background": ["-o", "--output", "--background", "--weights", "--model"],
    "evaluate": ["--predictions", "--images", "--masks", "--json", "--csv", "--plot", "--report", "--weights"],
    "learn": ["-o", "--config", "--val", "--cache", "--weights", "--backbone-weights"],
    "distill": ["-o", "--images", "--maps", "--teacher", "--teacher-weights", "--val", "--config"],
    "info": ["--weights", "--size"],
    "prune": ["-o", "--report", "--plot", "--weights", "--keep"],
    "export": ["--onnx", "--openvino", "--weights"],
    "bench": ["--weights", "--json"],
    "demo": ["--data", "-o", "--weights"],
    "completion": [],
}


def test_paths_of_all_commands_are_tried():
    assert PATHS.keys() == COMMANDS.keys()


@pytest.mark.parametrize(("command", "option"), [(command, option) for command in PATHS for option in PATHS[command]])
def test_empty_values_are_refused(command, option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forms = [[option, ""], *[[f"{option}="]] * option.startswith("--")]
    for form in forms:
        assert main([command, "x", *form]) == 2
        assert f"the argument after {option} is empty ('')" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("arguments", [[""], ["x", ""]])
def test_empty_arguments_are_refused(command, arguments, capsys):
    assert main([command, *arguments]) == 2
    assert f"the argument after {[command, *arguments][-2]} is empty" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["weights", "cache", "output", "backbone-weights", "data", "val"])
def test_empty_paths_in_files_are_refused(line, capsys, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(f'{line} = ""\n')
    assert main(["learn", "--config", str(file), "x", "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert re.search(rf"{line} = \S*''\S* must be (a path|paths|a share|a file)", error)


def test_arguments_of_a_network_may_be_empty(capsys):
    assert main(["info", "test_csnet", "--model-args", ""]) == 0
    assert "parameters" in capsys.readouterr().out


def test_what_a_network_lacks_is_named_as_an_option(capsys):
    assert main(["info", "csf"]) == 2
    error = capsys.readouterr().err
    assert "--model-args backbone must be" in error
    assert "pass --model-args backbone='resnet50'" in error
    assert main(["bench", "csf"]) == 2  # which has no --model-args
    error = capsys.readouterr().err
    assert "--model-args" not in error
    assert "name another network, such as csf_res2net101" in error


def test_warnings_of_others_do_not_show(capsys):
    def warn(message, filename, category=UserWarning):
        warnings.warn_explicit(message, category, filename, 1)

    with notes(in_python):
        warn("lr_scheduler.step() before optimizer.step()", torch.__file__)
        warn("The array is not writable (Triggered internally at tensor_numpy.cpp:212.)", "somewhere.py")
        warn("a future one", "somewhere.py", FutureWarning)
        warn("few pairs", sys.modules["goctconv"].__file__)
        warn("few pairs", sys.modules["goctconv"].__file__)
        warnings.warn(ArgumentWarning("size", 7, problem="is small"), stacklevel=1)
    with notes(in_python, quiet=True):
        warn("few pairs", sys.modules["goctconv"].__file__)
    say("end")
    assert capsys.readouterr().err == "goctconv: note: few pairs\ngoctconv: note: size=7 is small\nend\n"
