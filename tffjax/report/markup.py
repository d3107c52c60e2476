"""HTML as text that escapes whatever is not HTML already, and what the modules of a report hand on."""

import dataclasses
import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

DASH = "\N{EN DASH}"
"""Stands where there is no number."""

_VOID = ("img",)


class Html(str):
    """Text that is HTML; any other text is escaped when it gets into it."""


@dataclasses.dataclass
class Part:
    """What a run adds to the report.

    Attributes:
        section: id of the section it belongs to.
        body: its HTML there.
        cards: its findings for the overview.
        data: for the page's script, under the names of `tffjax/report/report.js`.
        images: name -> picture as WebP, decoded by the script when it is needed.
    """

    section: str
    body: Html
    cards: list[Html] = dataclasses.field(default_factory=list)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: dict[str, bytes] = dataclasses.field(default_factory=dict)


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. `class_` and `aria_label` are `class` and `aria-label`; an attribute that is None is left out."""
    names = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    written = "".join(f' {key}="{html.escape(str(value))}"' for key, value in names)
    return Html(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """One after the other, escaped unless they are HTML."""
    return Html("".join(child if isinstance(child, Html) else html.escape(str(child)) for child in children))


def table(caption: str, columns: dict[str, str], rows: Sequence[dict[str, Any]]) -> Html:
    """A table of some columns (name in the rows -> heading); numbers should come as text (`percent`, `short`).

    Words are aligned left, everything else right; a heading may have a group before a colon, such as `published: AP`.
    """
    words = {name for name in columns if all(isinstance(row[name], str) and not _numeric(row[name]) for row in rows)}
    kinds = {name: None if name in words else "number" for name in columns}
    head = tag("tr", *(tag("th", heading, scope="col", class_=kinds[name]) for name, heading in columns.items()))
    body = [tag("tr", *(tag("td", row[name], class_=kinds[name]) for name in columns)) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def card(title: str, number: str, sentence: str) -> Html:
    """A finding: what, the number, and what it means."""
    return tag("article", tag("h3", title), tag("p", number, class_="big"), tag("p", sentence), class_="card")


def prose(text: str) -> Html:
    """Markdown of headings, bullets and lines, one paragraph each (bold ones whole); anything else is plain text."""
    found: list[Html] = []
    bullets: list[Html] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("- "):
            bullets.append(tag("li", line[2:]))
            continue
        if bullets:
            found.append(tag("ul", *bullets))
            bullets = []
        if line.lstrip("#").startswith(" ") and line.startswith("#"):
            found.append(tag("h3", line.lstrip("# ")))
        elif line.startswith("**") and line.endswith("**"):
            found.append(tag("p", tag("strong", line.strip("*"))))
        elif line.strip():
            found.append(tag("p", line))
    return join(found)


def details(summary: str, *children: object) -> Html:
    """Something that opens."""
    return tag("details", tag("summary", summary), *children)


def percent(value: float | int | None, digits: int = 1) -> str:
    """A share from 0 to 1; a dash where there is none."""
    return DASH if missing(value) else f"{value:.{digits}%}"


def short(value: float | int | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash where there is none."""
    if missing(value):
        return DASH
    return f"{value:.{digits}g}".replace("inf", "\N{INFINITY}").replace("-", "\N{MINUS SIGN}")


def number(value: float | int | None, digits: int = 6) -> float | int | str | None:
    """A float for JSON: rounded, None for NaN, the words of JavaScript's `Number()` for infinities."""
    if missing(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def missing(value: float | int | None) -> bool:
    """Whether there is no number."""
    return value is None or math.isnan(value)


def _numeric(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in f"{DASH}\N{MINUS SIGN}\N{INFINITY}"
