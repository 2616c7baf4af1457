"""The README's table is what its script counts, and its commands are what the checks run."""

from __future__ import annotations

import os
import re
import runpy

from markdown_blocks import ROOT, blocks

README = ROOT / "README.md"
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -e ."
RUN = f"{INSTALL} && .venv/bin/goctconv remove-background examples/photographs -o cutouts"
DEMO = ".venv/bin/goctconv demo"
TEST = 'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/pytest'


def test_the_table_is_what_the_script_prints() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "model_table.py"))
    tables = re.findall(r"(?:^\|.*\n)+", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert tables[-1].rstrip() == script["table"]()


def test_commands_are_single_lines_of_their_own_blocks() -> None:
    commands = [block.text for block in blocks(README, "sh")]
    assert commands[:2] == [f"{RUN}\n", f"{DEMO}\n"]
    assert commands[-1] == f"{TEST}\n"


def test_it_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_checks_find_exactly_one_set_up_command() -> None:
    lines = [line for block in blocks(README, "sh") for line in block.text.splitlines()]
    assert [line for line in lines if '".[dev]"' in line] == [TEST]
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert "README.md" in text
    assert "pip install -e" not in text
    assert "python3 -m venv" not in text


def test_contributing_has_the_same_command() -> None:
    commands = [block.text for block in blocks(ROOT / "CONTRIBUTING.md", "sh")]
    assert commands[0] == f"{TEST}\n"
