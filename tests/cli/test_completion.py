"""``goctconv completion``: what the scripts complete."""

import shutil
import subprocess

import pytest

from goctconv.cli import main
from goctconv.cli._main import COMMANDS

ASK = """
source "$1"; shift
COMP_WORDS=(goctconv "$@"); COMP_CWORD=$#
_goctconv
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts():
    """The script of each shell."""
    found = {}
    for shell in ("bash", "zsh", "fish"):
        with pytest.MonkeyPatch.context() as patch:
            lines = []
            patch.setattr("goctconv.cli._completion.tell", lines.append)
            assert main(["completion", shell]) == 0
        found[shell] = "\n".join(lines) + "\n"
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pr"], ["predict", "prune"]),
        (["--v"], ["--version"]),
        (["predict", "--keep"], ["--keep-suffix"]),
        (["predict", "--backend", ""], ["torch", "native", "onnx", "openvino"]),
        (["predict", "--output", ""], []),  # files
        (["predict", "photos", "-o", "maps", "--cut"], ["--cutout"]),
        (["predict", "pho"], []),
        (["info", "csnet_x2"], ["csnet_x2", "csnet_x2_l"]),
        (["learn", "data", "--model", "scfnet_m"], ["scfnet_mobilenetv3_050"]),
        (["learn", "--no-ten"], ["--no-tensorboard"]),
        (["prune", "--criterion", "g"], ["gamma", "gamma_first", "geometric_median"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes(words, expected, scripts, tmp_path):
    script = tmp_path / "goctconv"
    script.write_text(scripts["bash"])
    command = ["bash", "-u", "-c", ASK, "ask", str(script), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [word for word in done.stdout.splitlines() if word] == expected
    assert not done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_valid_and_name_every_command(shell, scripts):
    assert scripts[shell].isascii() or shell == "fish"  # which shows what options are for
    for command in COMMANDS:
        assert command in scripts[shell]
    for option in ("keep-suffix", "backbone-weights", "teacher-weights", "openvino"):
        assert option in scripts[shell]
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=scripts[shell], text=True, check=True)


def test_unknown_shells_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "csh"])
    assert "csh" in capsys.readouterr().err
