"""The page: each figure and table beside what the paper reports."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from tffjax import __version__
from tffjax.files import write_text
from tffjax.nn.card import Card
from tffjax.report.markup import render, source_of
from tffjax.supplement.part import Part


def write_page(path: Path, parts: Sequence[Part], card: Card, detector: str) -> None:
    """Write the HTML file; its pictures lie beside it.

    Args:
        path: of the file.
        parts: in their order.
        card: of the detector.
        detector: which it is in the paper, in a line.
    """
    page = render(
        "supplement.html",
        version=__version__,
        style=Markup(source_of("report.css")),
        network=f"{card.architecture}, {card.source or 'no source stated'}",
        detector=detector,
        parts=[part for part in parts if not part.missing],
        missing=[part for part in parts if part.missing],
    )
    write_text(path, page)
