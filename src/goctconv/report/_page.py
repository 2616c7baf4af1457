"""What a network has learned, as a page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._page_style import STYLE
from .plots import Picture
from .plots._markup import escaped

MAX_BYTES = 1_000_000
_SIDES = (320, 240, 160, 96)  # of thumbnails, in pixels: the largest with which the page is small enough
_TINY = 1e-9


@dataclass(frozen=True)
class Example:
    """One photograph and what networks made of it.

    Attributes:
        title: Its name.
        pictures: Arrays by caption, such as ``{"photograph": …, "before": …, "after": …}``: uint8, of shape (H, W, 3)
            or (H, W).

    Example:
        >>> import numpy as np
        >>> from goctconv.report import Example
        >>> grey = np.full((48, 64), 128, dtype=np.uint8)
        >>> list(Example("0001", {"photograph": grey, "after": grey}).pictures)
        ['photograph', 'after']
    """

    title: str
    pictures: Mapping[str, NDArray[np.uint8]]


def training_page(
    title: str,
    *,
    subtitle: str = "",
    note: str = "",
    warning: bool = False,
    numbers: Mapping[str, tuple[float | None, float | None]] | None = None,
    proof: Mapping[str, float] | None = None,
    command: str = "",
    pictures: Sequence[Picture] = (),
    examples: Sequence[Example] = (),
    max_bytes: int = MAX_BYTES,
) -> str:
    """Return a page that shows what a network has learned and what pruning has changed, as HTML.

    It follows the reader's dark or light mode, suits a phone, and needs nothing but itself.

    Args:
        title: The heading.
        subtitle: One line below it.
        note: What has to be said plainly; may hold ``code`` in backticks.
        warning: Whether the note warns.
        numbers: Before and after pruning, by what they measure, such as ``{"parameters": (210985, 93647)}``; None where
            it is not known.
        proof: That pruning was exact: differences, by what was compared.
        command: How to repeat the proof.
        pictures: Made by `goctconv.report.plots`.
        examples: Photographs with maps.
        max_bytes: How large the page may be; thumbnails become smaller until it is.

    Raises:
        TypeError: An image is no array.
        ValueError: An image is not of type uint8 and shape (H, W, 3) or (H, W), or the page is too large.

    Example:
        >>> from goctconv.report import training_page, plots
        >>> curves = plots.learning_curves({"mine": {"loss": [0.7, 0.4], "mae": [0.3, 0.1]}})
        >>> page = training_page("Learned", numbers={"parameters": (210985, 93647)}, pictures=[curves])
        >>> page[:15], "44.4 %" in page
        ('<!doctype html>', True)
    """
    shown = escaped(title)
    head = [
        f"<h1>{shown}</h1>",
        f"<p>{escaped(subtitle)}</p>" if subtitle else "",
        f'<p class="note{" warning" if warning else ""}">{_with_code(note)}</p>' if note else "",
        _table(numbers or {}),
        _proof(proof or {}, command),
        _section("What was learned", "figures", [_figure(picture) for picture in pictures]),
    ]
    size = 0
    for side in _SIDES:
        cards = [_card(example, side) for example in examples]
        body = "\n".join(part for part in (*head, _section("Photographs and maps", "cards", cards)) if part)
        page = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{shown}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
        )
        size = len(page.encode(errors="replace"))
        if size <= max_bytes:
            return page
    raise ValueError(
        f"the page would have {size:,} bytes, {max_bytes:,} are allowed: give fewer than {len(examples)} examples and "
        f"{len(pictures)} pictures, or a larger max_bytes"
    )


def _section(heading: str, kind: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f'<section>\n<h2>{heading}</h2>\n<div class="{kind}">\n' + "\n".join(items) + "\n</div>\n</section>"


def _figure(picture: Picture) -> str:
    caption = escaped(picture.description)
    return f'<figure class="card">{picture.to_svg()}<figcaption>{caption}</figcaption></figure>'


def _card(example: Example, side: int) -> str:
    title = escaped(example.title)
    figures = ""
    for caption, array in example.pictures.items():
        shown = escaped(caption)
        source = _thumbnail(array, side, f"{example.title}, {caption}")
        figures += f'<figure><img alt="{shown} of {title}" {source}><figcaption>{shown}</figcaption></figure>'
    return f'<article class="card"><h3>{title}</h3><div class="row">{figures}</div></article>'


def _thumbnail(array: Any, side: int, name: str) -> str:
    """Return the attributes of an ``img`` element that holds a small copy of an image."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {type(array).__name__}, expected a NumPy array of type uint8")
    if array.dtype != np.uint8 or array.ndim not in {2, 3} or array.shape[2:] not in {(), (3,)} or not array.size:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, expected uint8 of shape (H, W, 3) or (H, W)")
    small = Image.fromarray(np.ascontiguousarray(array))
    small.thumbnail((side, side))
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=82)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return f'width="{small.width}" height="{small.height}" src="data:image/jpeg;base64,{encoded}"'


def _table(numbers: Mapping[str, tuple[float | None, float | None]]) -> str:
    if not numbers:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{_number(before)}</td><td>{_number(after)}</td>'
        f"<td>{_share(before, after)}</td></tr>"
        for name, (before, after) in numbers.items()
    )
    head = "<tr><td></td>" + "".join(f'<th scope="col">{name}</th>' for name in ("before", "after", "ratio")) + "</tr>"
    return f'<section>\n<h2>Before and after</h2>\n<div class="card wide"><table>{head}{rows}</table></div>\n</section>'


def _proof(proof: Mapping[str, float], command: str) -> str:
    if not proof and not command:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{_number(value)}</td></tr>' for name, value in proof.items()
    )
    table = f"<table>{rows}</table>" if rows else ""
    repeat = f'<p>To repeat it:</p><p class="command">{_code(escaped(command))}</p>' if command else ""
    return f'<section>\n<h2>How exact pruning was</h2>\n<div class="card wide">{table}{repeat}</div>\n</section>'


def _number(value: float | None) -> str:
    """Return a number that is not too wide for a phone."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    for unit, suffix in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= 10 * unit:
            return f"{value / unit:,.1f} {suffix}"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


def _share(before: float | None, after: float | None) -> str:
    if before is None or after is None or not math.isfinite(before) or not math.isfinite(after) or abs(before) < _TINY:
        return ""
    return f"{after / before:.1%}".replace("%", " %")


def _with_code(text: str) -> str:
    """Return a text whose parts in backticks are code, of which lines break between words alone."""
    parts = escaped(text).split("`")
    return "".join(_code(part) if index % 2 else part for index, part in enumerate(parts))


def _code(text: str) -> str:
    return "<code>" + " ".join(f"<span>{word}</span>" for word in text.split()) + "</code>"
