"""What all plots share: the width of a column, colors for all color visions, how axes look."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 3.5
"""Inches: a column of a two-column page."""

PAGE = 2 * WIDTH
"""Inches: a page of two columns."""

GRAY, BLACK = "0.6", "0.1"
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito 2008, for all color visions

LONGEST = 28
"""Characters of a name in a figure."""


def short_name(name: str) -> str:
    """A name as figures show it: at most `LONGEST` characters, all of them printable.

    A space goes before an underscore, as Matplotlib leaves labels that begin with one out of legends.
    """
    plain = "".join(c if c.isprintable() else " " for c in name)
    if len(plain) > LONGEST:
        plain = f"{plain[: LONGEST // 2]}…{plain[1 - LONGEST // 2 :]}"
    return f" {plain}" if plain.startswith("_") else plain


def column_figure(height: float) -> tuple[Figure, Axes]:
    """A figure as wide as a column, `height` inches high, and its only axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def label_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Labels and title in small type (`$...$` in `y` is math), no frame at the top and on the right."""
    axes.set_xlabel(x, fontsize=8, parse_math=False)
    axes.set_ylabel(y, fontsize=8, parse_math=y.count("$") == 2)
    axes.set_title(title, fontsize=8, parse_math=False)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
