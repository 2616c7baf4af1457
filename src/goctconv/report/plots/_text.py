"""Text in pictures: numbers, shortened names, and how wide they are."""

from __future__ import annotations

import math
import re
import unicodedata

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_CHARACTER = 0.56  # of the font size, of most letters and all digits in most sans-serif fonts
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def compact(value: float) -> str:
    """Return a number in few characters.

    Example:
        >>> [compact(value) for value in (210985, 0.0758, 1.5e9, 3e-21, -2, 0)]
        ['211k', '0.0758', '1.5G', '3e-21', '-2', '0']
    """
    if not math.isfinite(value):
        return str(value)
    for unit, suffix in _SUFFIXES:
        if abs(value) >= 0.9995 * unit and (unit > 1e3 or abs(value) >= 1e4):
            return f"{value / unit:.3g}{suffix}" if abs(value) < 999.5 * unit else f"{value:.2e}"
    if value and abs(value) < 1e-4:
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.3g}")
    return f"{value:.0f}" if value == round(value) else f"{value:.4g}"


def power_of_ten(exponent: int) -> str:
    """Return 10 to an integer power; raised digits would be too small on a phone."""
    return f"1e{exponent}" if abs(exponent) > 3 else f"{10.0**exponent:g}"


def shorten(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters: its beginning and its end.

    Example:
        >>> shorten("backbone.layer4.2.bn3", 14)
        'backbon….2.bn3'
    """
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    end = (limit - 1) // 2
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"


def width_of(text: str, size: float) -> float:
    """Return about how wide a text is at a font size."""
    wide = sum(unicodedata.east_asian_width(character) in {"W", "F"} for character in text)
    return size * (wide + _CHARACTER * (len(text) - wide))


def readable(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
