"""Pages of training, demo and evaluation, and the parts of every page: one file, no scripts, nothing loaded."""

from __future__ import annotations

import base64
import importlib.resources
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._checks import ArgumentError, ArgumentTypeError
from ..saliency.metrics import SaliencyScores
from ._curves import learning_curves
from ._picture import Picture
from ._theme import css_variables, escaped

_MAX_BYTES = 400_000
_SIDES = (320, 240, 160, 96)  # of thumbnails, in pixels: the largest with which the page is small enough
_TINY = 1e-9


def html_page(title: str, parts: Iterable[str], heading: str = "") -> str:
    """Return a page of parts that are HTML, of which empty ones are left out, below a title or a heading as HTML."""
    style = f":root{{color-scheme:light dark}}{css_variables(':root')}\n"
    style += importlib.resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(part for part in (f"<h1>{heading or escaped(title)}</h1>", *parts) if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    """Return a paragraph; nothing if there is no text."""
    return f"<p>{escaped(text)}</p>" if text else ""


def section(heading: str, items: Sequence[str], kind: str = "") -> str:
    """Return items below a heading; nothing if there are none."""
    inner = "\n".join(items)
    body = f'<div class="{kind}">\n{inner}\n</div>' if kind else inner
    return f"<section>\n<h2>{escaped(heading)}</h2>\n{body}\n</section>" if items else ""


def table(rows: Mapping[str, Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a table of cells by row."""
    columns = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    lines = [f"<tr><td></td>{columns}</tr>"] if head else []
    for name, cells in rows.items():
        lines.append(f'<tr><th scope="row">{escaped(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    return f"<table>{''.join(lines)}</table>" if rows else ""


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
    examples: Sequence[tuple[str, Mapping[str, NDArray[np.uint8]]]] = (),
    max_bytes: int | None = _MAX_BYTES,
) -> str:
    """Return a page about a training run, or about the maps of a network, as HTML.

    It follows the reader's dark or light mode, suits a phone, and needs nothing but itself. Without matplotlib it
    describes its pictures and says what to install.

    Args:
        title: The heading.
        subtitle: One line below it.
        note: What readers must know; may hold ``code`` in backticks.
        warning: Whether the note warns.
        numbers: Before and after pruning, by what they measure, such as ``{"parameters": (210985, 93647)}``; None where
            it is not known.
        proof: How exact pruning was: differences, by what was compared.
        command: How to repeat the proof.
        pictures: Made by the functions of `goctconv.report`.
        examples: Photographs with maps: a title, and arrays by caption, such as ``("0001", {"photograph": …})``, of
            type uint8 and shape (H, W, 3) or (H, W).
        max_bytes: How large the page may be, None for any size; thumbnails become smaller until it is.

    Raises:
        ArgumentError: An image is no array of type uint8 and shape (H, W, 3) or (H, W), or the page is too large.

    Example:
        >>> from goctconv.report import learning_curves, training_page
        >>> curves = learning_curves({"mine": {"loss": [0.7, 0.4], "mae": [0.3, 0.1]}})
        >>> page = training_page("Training", numbers={"parameters": (210985, 93647)}, pictures=[curves])
        >>> page[:15], "44.4 %" in page
        ('<!doctype html>', True)
    """
    changes = {name: [*map(format_number, pair), format_share(*pair)] for name, pair in (numbers or {}).items()}
    head = [
        paragraph(subtitle),
        f'<p class="note{" warning" if warning else ""}">{_with_code(note)}</p>' if note else "",
        section("Before and after", [table(changes, ("before", "after", "ratio"))] if changes else [], "card wide"),
        section("Exactness of pruning", _proof(proof or {}, command), "card wide"),
        section("Training", [figure(picture) for picture in pictures], "figures"),
    ]
    size = 0
    for side in _SIDES:
        cards = [_card(name, images, side) for name, images in examples]
        page = html_page(title, [*head, section("Photographs and maps", cards, "cards")])
        size = len(page.encode(errors="replace"))
        if max_bytes is None or size <= max_bytes:
            return page
    cure = f"pass fewer than {len(examples)} {{examples}}, fewer {{pictures}}, or a larger {{max_bytes}}"
    raise ArgumentError("max_bytes", max_bytes, f"at least {size}, the size of the page", cure)


def evaluation_page(
    scores: Mapping[str, SaliencyScores], *, title: str = "Evaluation", subtitle: str = "", notes: Iterable[str] = ()
) -> str:
    """Return a page about the metrics of data sets, with precision by recall and F by threshold, as HTML.

    Args:
        scores: What `goctconv.saliency.metrics.SaliencyMetrics` computed, by data set.
        title: The heading.
        subtitle: One line below it.
        notes: What else there is to say, such as how masks are read.

    Raises:
        ArgumentError: There are no scores.

    Example:
        >>> import torch
        >>> from goctconv.report import evaluation_page
        >>> from goctconv.saliency.metrics import SaliencyMetrics
        >>> metrics = SaliencyMetrics(metrics=["max_f", "mae"])
        >>> metrics.update(torch.tensor([[0.2, 0.9]]), torch.tensor([[False, True]]))
        >>> page = evaluation_page({"mine": metrics.compute()})
        >>> "max F" in page, f"{metrics.compute().mae:.4f}" in page
        (True, True)
    """
    if not scores:
        raise ArgumentError("scores", scores, "the scores of at least one data set")
    rows = {name: [str(data.images), *data.shown().values()] for name, data in scores.items()}
    first = next(iter(scores.values()))
    runs = {name: data.curves for name, data in scores.items()}
    curves = learning_curves(runs, ("precision", "f"), x=("recall", "thresholds"), title="Precision, recall and F")
    columns = ["images", *first.titled()]
    metrics = [table(rows, columns), paragraph(f"protocol {first.protocol}")]
    parts = [section("Metrics", metrics, "card scroll"), section("Curves", [figure(curves)], "figures")]
    return html_page(title, [paragraph(subtitle), *map(paragraph, notes), *parts])


def figure(picture: Picture) -> str:
    """Return a picture with its description; without matplotlib, what to install."""
    try:
        shown = picture.to_svg()
    except ImportError as error:
        shown = f"<h3>{escaped(picture.title)}</h3><p>{escaped(str(error))}</p>"
    return f'<figure class="card">{shown}<figcaption>{escaped(picture.description)}</figcaption></figure>'


def _card(name: str, images: Mapping[str, Any], side: int) -> str:
    title, figures = escaped(name), ""
    for caption, array in images.items():
        shown, source = escaped(caption), _thumbnail(array, side, f"examples[{name!r}][{caption!r}]")
        figures += f'<figure><img alt="{shown} of {title}" {source}><figcaption>{shown}</figcaption></figure>'
    return f'<article class="card"><h3>{title}</h3><div class="thumbnails">{figures}</div></article>'


def _thumbnail(array: Any, side: int, argument: str) -> str:
    """Return the attributes of an ``img`` element that holds a small copy of an image."""
    expected = "a NumPy array of type uint8 and shape (H, W, 3) or (H, W)"
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(argument, array, expected)
    if array.dtype != np.uint8 or array.ndim not in {2, 3} or array.shape[2:] not in {(), (3,)} or not array.size:
        raise ArgumentError(argument, array, expected, problem=f"is of type {array.dtype}")
    small = Image.fromarray(np.ascontiguousarray(array))
    small.thumbnail((side, side))
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=82)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return f'width="{small.width}" height="{small.height}" src="data:image/jpeg;base64,{encoded}"'


def _proof(proof: Mapping[str, float], command: str) -> list[str]:
    rows = [table({name: [format_number(value)] for name, value in proof.items()})] if proof else []
    return rows + ([f'<p>To repeat it:</p><p class="command">{_code(escaped(command))}</p>'] if command else [])


def format_number(value: float | None) -> str:
    """Return a number that is not too wide for a phone."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    for unit, suffix in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= 10 * unit:
            return f"{value / unit:,.1f} {suffix}"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


def format_share(before: float | None, after: float | None) -> str:
    """Return what is left, in percent."""
    if before is None or after is None or not math.isfinite(before) or not math.isfinite(after) or abs(before) < _TINY:
        return ""
    return f"{100 * after / before:.1f} %"


def _with_code(text: str) -> str:
    """Return a text whose parts in backticks are code, of which lines break between words alone."""
    parts = escaped(text).split("`")
    return "".join(_code(part) if index % 2 else part for index, part in enumerate(parts))


def _code(text: str) -> str:
    return "<code>" + " ".join(f"<span>{word}</span>" for word in text.split()) + "</code>"
