"""Tables E.1, I.1 and I.2 in the paper's wide layout: a row a setting, and for each generator AP, real and fake."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tffjax.files import write_text
from tffjax.results.generators import ALL, in_order, shown_name
from tffjax.results.tables import write_table

FIGURES = ("ap", "real", "fake")
HEADINGS = ("AP", "Real", "Fake")

_SPECIAL = {character: rf"\{character}" for character in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


class Line(NamedTuple):
    """A row: its name and, by generator, AP and the accuracies on real and fake images in percent, None if unknown."""

    name: str
    values: dict[str, tuple[float | None, ...]]


def lines_of(
    table: pa.Table,
    name: str,
    columns: Sequence[str] = ("ap", "real_calibrated", "fake_calibrated"),
    scale: int = 100,
    label: Callable[[str], str] = str,
) -> list[Line]:
    """The rows of a long table, with those of the paper below ours where it has them.

    Args:
        table: a row for each setting and generator.
        name: of the column of settings.
        columns: AP and accuracies; those of the paper are called `published_` and so.
        scale: from the numbers to percent.
        label: what a setting is called in the wide table.
    """
    rows = table.to_pylist()
    lines = []
    for setting in dict.fromkeys(row[name] for row in rows):
        own = {row["generator"]: row for row in rows if row[name] == setting}
        own = {generator: row for generator, row in own.items() if generator != ALL or len(own) == 1}
        lines.append(Line(label(setting), {key: tuple(scale * row[c] for c in columns) for key, row in own.items()}))
        theirs = {key: tuple(row[f"published_{c}"] for c in columns) for key, row in own.items()}
        if any(value is not None for values in theirs.values() for value in values):
            published = {key: tuple(v if v is None else scale * v for v in values) for key, values in theirs.items()}
            lines.append(Line(f"{label(setting)}, published", published))
    return lines


def write_wide(lines: Sequence[Line], heading: str, path: Path) -> None:
    """Write `path`.csv, .parquet, .tex and .html; generators of the paper come first, in its order."""
    generators = in_order(generator for line in lines for generator in line.values)
    columns: dict[str, list] = {heading: [line.name for line in lines]}
    for generator in generators:
        for place, figure in enumerate(FIGURES):
            values = [line.values[generator][place] for line in lines]
            columns[f"{generator} {figure}"] = pa.array(values, pa.float64())
    write_table(pa.table(columns), path)
    for ending, text in (("tex", latex(lines, generators)), ("html", html_table(lines, generators))):
        write_text(path.with_name(f"{path.name}.{ending}"), text)


def latex(lines: Sequence[Line], generators: Sequence[str]) -> str:
    """A tabular with the rules of booktabs."""
    count, width = len(generators), len(HEADINGS)
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{_escaped(shown_name(generator))}}}" for generator in generators]
    rules = [rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(count)]
    body = [
        [_escaped(line.name), *(_cell(value) for generator in generators for value in line.values[generator])]
        for line in lines
    ]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{l*{{{count}}}{{{'r' * width}}}}}",
            r"\toprule",
            _row(["", *spans]),
            " ".join(rules),
            _row(["", *HEADINGS * count]),
            r"\midrule",
            *map(_row, body),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def html_table(lines: Sequence[Line], generators: Sequence[str]) -> str:
    """A table to be put into a page; a dash stands where there is no number."""
    spans = "".join(
        f'<th colspan="{len(HEADINGS)}">{html.escape(shown_name(generator))}</th>' for generator in generators
    )
    headings = "".join(f"<th>{heading}</th>" for heading in HEADINGS) * len(generators)
    body = []
    for line in lines:
        values = (_cell(value).replace("--", "&ndash;") for name in generators for value in line.values[name])
        cells = "".join(f"<td>{value}</td>" for value in values)
        body.append(f'<tr><th scope="row">{html.escape(line.name)}</th>{cells}</tr>')
    head = f'<thead><tr><th rowspan="2"></th>{spans}</tr><tr>{headings}</tr></thead>'
    return "\n".join(['<table class="wide">', head, "<tbody>", *body, "</tbody></table>", ""])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(value: float | None) -> str:
    return "--" if value is None or value != value else f"{value:.1f}"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
