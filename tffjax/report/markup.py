"""Templates, Markdown and numbers of the page, and what the modules of a report hand on."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

DASH = "\N{EN DASH}"
"""Stands where there is no number."""

_HEADING = {"h1": "h3", "h2": "h3", "h3": "h4", "h4": "h5", "h5": "h6"}  # notes stand below a heading of the page


class Card(NamedTuple):
    """A finding: what, the number, and what it means."""

    title: str
    number: str
    sentence: str


@dataclasses.dataclass
class Part:
    """What a run adds to the report.

    Attributes:
        section: id of the section it belongs to.
        body: its HTML there.
        cards: its findings for the overview.
        data: for the page's script, under the names of `tffjax/report/templates/report.js`.
        images: name -> picture as WebP, decoded by the script when it is needed.
    """

    section: str
    body: Markup
    cards: list[Card] = dataclasses.field(default_factory=list)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: dict[str, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of some columns (name in the rows -> heading); numbers should come as text (`percent`, `short`)."""

    caption: str
    columns: dict[str, str]
    rows: Sequence[dict[str, Any]]

    @property
    def numbers(self) -> set[str]:
        """The columns that hold anything but words."""
        return {name for name in self.columns if not all(_is_word(row[name]) for row in self.rows)}


def render(template: str, **values: Any) -> Markup:
    """A template filled in; whatever is not HTML already is escaped."""
    return Markup(_environment().get_template(template).render(**values))


def source_of(name: str) -> str:
    """A file beside the templates, as it is."""
    environment = _environment()
    return environment.loader.get_source(environment, name)[0]


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML in it is text, and it shows no pictures."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).disable("image")
    tokens = parser.parse(text)
    for token in tokens:
        token.tag = _HEADING.get(token.tag, token.tag)
    return Markup(parser.renderer.render(tokens, parser.options, {}))


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


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and not (value[:1].isdigit() or value[:1] in f"{DASH}\N{MINUS SIGN}\N{INFINITY}")


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tffjax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
