"""Reading fenced blocks of Markdown files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """The contents of a fenced block, and the line where they start."""

    language: str
    text: str
    line: int


def blocks(file: Path, language: str) -> list[Block]:
    """Return the fenced blocks of one language, in order."""
    text = file.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if block.language == language]
