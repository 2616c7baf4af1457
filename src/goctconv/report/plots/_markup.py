"""SVG as text."""

from __future__ import annotations

import html

from ._text import readable


def escaped(text: str) -> str:
    """Return a text as it stands between tags, or in an attribute."""
    return html.escape(readable(text))


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an element around markup; of attributes, ``class_`` is ``class``, and other ``_`` are ``-``.

    Example:
        >>> element("text", escaped("a < b"), class_="q", text_anchor="end", x=1.50001)
        '<text class="q" text-anchor="end" x="1.5">a &lt; b</text>'
    """
    parts = [name]
    for key, value in attributes.items():
        text = number(value) if isinstance(value, float) else escaped(str(value))
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{text}"')
    start = " ".join(parts)
    return f"<{start}>{content}</{name}>" if content else f"<{start}/>"


def text(content: str, x: float, y: float, **attributes: object) -> str:
    """Return a text element."""
    return element("text", escaped(content), x=x, y=y, **attributes)


def tip(content: str) -> str:
    """Return the element that browsers show as a tooltip."""
    return element("title", escaped(content)) if content else ""


def number(value: float) -> str:
    """Return a coordinate: a hundredth of a unit cannot be seen."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")
