"""The page of ``goctconv demo``: one file, no scripts, nothing loaded from elsewhere."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

_THUMBNAIL = 320

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6670; --page: #f6f7f8; --card: #fff; --line: #dfe2e6;
  --note: #fff4d6; --note-ink: #5c4400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ad; --page: #141619; --card: #1d2024;
  --line: #32373d; --note: #3a3010; --note-ink: #ffe3a1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 1200px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; }
p { margin: .25rem 0 1rem; color: var(--soft); }
code { font: .9em ui-monospace, monospace; }
code span { white-space: nowrap; }
.note { padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.warning { border-color: transparent; background: var(--note); color: var(--note-ink); }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); }
.card { padding: .8rem; border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
.card h2 { margin: 0 0 .5rem; font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
.row { display: grid; gap: .5rem; align-items: start; grid-template-columns: repeat(2, 1fr); }
.row figure:last-child:nth-child(odd) { grid-column: span 2; }
@media (min-width: 640px) { .row figure:last-child:nth-child(odd) { grid-column: auto; }
  .row { grid-template-columns: repeat(auto-fit, minmax(90px, 1fr)); } }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line); }
figcaption { margin-top: .2rem; color: var(--soft); font-size: .8rem; }
"""


@dataclass(frozen=True)
class Card:
    """One picture and what was made of it: (caption, picture) pairs."""

    title: str
    pictures: Sequence[tuple[str, str]]


def thumbnail(picture: Image.Image) -> str:
    """Return an ``img`` element that holds a small copy of a picture."""
    small = picture.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=82)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return f'width="{small.width}" height="{small.height}" src="data:image/jpeg;base64,{encoded}"'


def render_page(title: str, subtitle: str, note: str, cards: Sequence[Card], *, warning: bool) -> str:
    """Return the page as HTML.

    Args:
        title: The heading.
        subtitle: One line below it.
        note: What has to be said plainly; may hold ``code`` in backticks.
        cards: One per picture, their pictures made by `thumbnail`.
        warning: Whether the note warns.
    """
    parts = html.escape(note).split("`")
    marked = "".join(_code(part) if index % 2 else part for index, part in enumerate(parts))
    kind = "note warning" if warning else "note"
    body = "\n".join(_render_card(card) for card in cards)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>{html.escape(subtitle)}</p>\n"
        f'<p class="{kind}">{marked}</p>\n<main class="cards">\n{body}\n</main>\n</body>\n</html>\n'
    )


def _code(text: str) -> str:
    """Return code whose lines break between words alone, not inside of options."""
    return "<code>" + " ".join(f"<span>{word}</span>" for word in text.split()) + "</code>"


def _render_card(card: Card) -> str:
    title = html.escape(card.title)
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)} of {title}" {source}><figcaption>{html.escape(caption)}</figcaption>'
        "</figure>"
        for caption, source in card.pictures
    )
    return f'<section class="card"><h2>{title}</h2><div class="row">{figures}</div></section>'
