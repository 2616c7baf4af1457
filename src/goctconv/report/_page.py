"""Pages of training, demo and evaluation, and the parts of every page: one file, no scripts, nothing loaded."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._checks import ArgumentError, ArgumentTypeError
from ..saliency.metrics import METRICS, SaliencyScores
from ._curves import learning_curves
from ._picture import Picture
from ._theme import css_variables, escaped

_MAX_BYTES = 400_000
_SIDES = (320, 240, 160, 96)  # of thumbnails, in pixels: the largest with which the page is small enough
_TINY = 1e-9

_STYLE = (
    f":root{{color-scheme:light dark}}{css_variables(':root')}"
    """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 1200px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; }
h2 { margin: 2rem 0 .6rem; font-size: 1.15rem; }
h3 { margin: 0 0 .5rem; font-size: .95rem; font-weight: 600; }
p { margin: .25rem 0 1rem; color: var(--soft); }
code { font: .9em ui-monospace, monospace; }
code span { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
.note { padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.warning { border-color: transparent; background: var(--note); color: var(--note-ink); }
.card { padding: .8rem; border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
.wide { max-width: 46rem; }
.wide, .scroll { overflow-x: auto; }
.card > p { margin: .6rem 0 0; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); }
.figures { columns: 2 440px; column-gap: 1rem; }
.figures > .card { margin-bottom: 1rem; break-inside: avoid; }
.goctconv-picture { margin: 0 auto; }
.thumbnails { display: grid; gap: .5rem; align-items: start; grid-template-columns: repeat(2, 1fr); }
@media (min-width: 640px) { .thumbnails { grid-template-columns: repeat(auto-fit, minmax(90px, 1fr)); } }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line); }
figcaption { margin-top: .2rem; color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; }
th { font-weight: 400; text-align: left; }
th[scope=col] { color: var(--soft); text-align: right; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
@media (max-width: 480px) { table { font-size: .9rem; } th, td { padding-right: .5rem; } .card { padding: .6rem; } }
th:last-child, td:last-child { padding-right: 0; }
tr:last-child th, tr:last-child td { border-bottom: 0; }
td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""
)


def html_page(title: str, parts: Iterable[str], style: str = "", heading: str = "") -> str:
    """Return a page of parts that are HTML; empty ones are left out.

    Args:
        title: The heading, as text.
        parts: What follows it.
        style: CSS beyond that of every page.
        heading: The heading as HTML, where it differs.
    """
    body = "\n".join(part for part in (f"<h1>{heading or escaped(title)}</h1>", *parts) if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


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
        ArgumentTypeError: An image is no array.
        ArgumentError: An image is not of type uint8 and shape (H, W, 3) or (H, W), or the page is too large.

    Example:
        >>> from goctconv.report import learning_curves, training_page
        >>> curves = learning_curves({"mine": {"loss": [0.7, 0.4], "mae": [0.3, 0.1]}})
        >>> page = training_page("Training", numbers={"parameters": (210985, 93647)}, pictures=[curves])
        >>> page[:15], "44.4 %" in page
        ('<!doctype html>', True)
    """
    changes = {
        name: [format_number(before), format_number(after), format_share(before, after)]
        for name, (before, after) in (numbers or {}).items()
    }
    head = [
        f"<p>{escaped(subtitle)}</p>" if subtitle else "",
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


def evaluation_page(scores: Mapping[str, SaliencyScores], *, title: str = "Evaluation", subtitle: str = "") -> str:
    """Return a page about the metrics of data sets, with precision by recall and F by threshold, as HTML.

    Args:
        scores: What `goctconv.saliency.metrics.SaliencyMetrics` computed, by data set.
        title: The heading.
        subtitle: One line below it.

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
    rows = {
        name: [str(data.images), *(f"{value:.4f}" for value in data.scores().values())] for name, data in scores.items()
    }
    first = next(iter(scores.values()))
    runs = {name: data.curves for name, data in scores.items()}
    curves = learning_curves(runs, ("precision", "f"), x=("recall", "thresholds"), title="Precision, recall and F")
    columns = ["images", *(METRICS[key] for key in first.scores())]
    parts = [
        f"<p>{escaped(subtitle)}</p>" if subtitle else "",
        section("Metrics", [table(rows, columns), f"<p>protocol {escaped(str(first.protocol))}</p>"], "card scroll"),
        section("Curves", [figure(curves)], "figures"),
    ]
    return html_page(title, parts)


def figure(picture: Picture) -> str:
    """Return a picture with its description; without matplotlib, what to install."""
    try:
        shown = picture.to_svg()
    except ImportError as error:
        shown = f"<h3>{escaped(picture.title)}</h3><p>{escaped(str(error))}</p>"
    return f'<figure class="card">{shown}<figcaption>{escaped(picture.description)}</figcaption></figure>'


def _card(name: str, images: Mapping[str, Any], side: int) -> str:
    title = escaped(name)
    figures = ""
    for caption, array in images.items():
        shown = escaped(caption)
        source = _thumbnail(array, side, f"examples[{name!r}][{caption!r}]")
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
