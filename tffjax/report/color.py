"""The color study: tests and densities of every channel, shares, the paper's table, whiskers."""

from typing import Any

import numpy as np
import pyarrow as pa

from tffjax.data.ablations import parse_list
from tffjax.files import file_name
from tffjax.report.classes import classes_table
from tffjax.report.markup import Card, Part, Table, number, percent, render, short
from tffjax.report.sources import Source
from tffjax.results.generators import names_of
from tffjax.studies.color.statistics import density_table

GRAYSCALE = "grayscale"
POINTS = 48
"""Of a density curve."""

_LEVELS = 250  # heights of a density are whole numbers up to this
_TESTS = ("generator", "num", "p", "p_adjusted", "p_paired", "effect", "note")


def color_part(source: Source) -> Part:
    """Shares, metrics, table I.1, whiskers; for channel pages `tests` and `densities` by key.

    Densities and tests are of one ablation: grayscale if it is among those of the run, else the first.
    """
    names = [str(ablation) for text in source.arguments["ablations"] for ablation in parse_list(text)]
    chosen = GRAYSCALE if GRAYSCALE in names else names[0]
    shares = source.table("shares").to_pylist()
    charts = []
    for name in names:
        file = f"whiskers_{file_name(name)}"
        if source.has(file):
            rows = [_rounded(row) for row in source.table(file).to_pylist()]
            charts.append({"ablation": name, "rows": rows})
    made = {"metrics": _metrics, "grayscale": _grayscale, "classes": classes_table}
    tables = {name: make(source.table(name).to_pylist()) if source.has(name) else None for name, make in made.items()}
    body = render(
        "color.html",
        count=source.results["images"],
        ablations=", ".join(names),
        run=source.name,
        shares=_shares(shares),
        whiskers=bool(charts),
        published=tables["grayscale"] is not None and "published_ap" in tables["grayscale"].columns,
        **tables,
    )
    data = {
        "whiskers": [{"charts": charts}] if charts else [],
        "color": {
            "ablation": chosen,
            "tests": _tests(source.table("tests"), chosen),
            "densities": _densities(source, names.index(chosen)),
        },
    }
    return Part("color", body, [_card([row for row in shares if row["ablation"] == chosen], chosen)], data)


def _tests(tests: pa.Table, ablation: str) -> dict[str, list[list[Any]]]:
    """Key -> a list of `_TESTS` for each generator."""
    found: dict[str, list[list[Any]]] = {}
    for row in tests.to_pylist():
        if row["ablation"] == ablation:
            values = [number(row[name], 3) if isinstance(row[name], float) else row[name] for name in _TESTS]
            found.setdefault(row["key"], []).append(values)
    return found


def _densities(source: Source, variant: int) -> dict[str, list[list[Any]]]:
    """Key -> [generator, low, high, before, after] for each generator.

    Before and after are heights at `POINTS` places from low to high, as shares of `_LEVELS` of the highest of both; or
    the one value of a sample without spread.
    """
    table = source.table("per_image")
    keys = source.record["identity"]["channels"]
    label = np.array(table["label"].to_pylist(), dtype=object)
    members = label == "fake" if (label == "fake").any() else np.ones(len(label), bool)
    generator = np.array(table["generator"].to_pylist(), dtype=object)[members]
    activations = table["activations"].combine_chunks().flatten().to_numpy().reshape(len(table), -1, len(keys))
    before, after = activations[members, 0], activations[members, 1 + variant]
    found: dict[str, list[list[Any]]] = {key: [] for key in keys}
    for name in names_of(generator):
        own = generator == name
        for column, key in enumerate(keys):
            found[key].append([name, *_density(before[own, column], after[own, column])])
    return found


def _density(before: np.ndarray, after: np.ndarray) -> list[Any]:
    curves = density_table(before, after, POINTS)
    x = curves["activation"].to_numpy()
    grid = np.linspace(x[0], x[-1], POINTS)
    heights = [curves[name].to_numpy() for name in ("before", "after")]
    top = max((y.max() for y in heights if np.isfinite(y).all()), default=1.0) or 1.0
    drawn = [
        np.rint(np.interp(grid, x, y) * (_LEVELS / top)).astype(int).tolist()
        if np.isfinite(y).all()
        else number(float(x[np.isinf(y)][0]), 4)
        for y in heights
    ]
    return [number(float(grid[0]), 4), number(float(grid[-1]), 4), *drawn]


def _shares(shares: list[dict[str, Any]]) -> Table:
    rows = [
        {
            **row,
            "generator": row["generator"] or "(all)",
            "of": f"{row['num_conditional']} of {row['num_channels']}",
            **{name: percent(row[name]) for name in ("share", "share_adjusted", "share_paired")},
            "median_effect": short(row["median_effect"]),
        }
        for row in shares
    ]
    columns = {"ablation": "ablation", "generator": "generator", "num": "images", "of": "channels", "share": "share"}
    columns |= {"share_adjusted": "share, adjusted p", "share_paired": "share, paired test"}
    columns |= {"median_effect": "median |effect|"}
    return Table("Channels that respond", columns, rows)


def _grayscale(rows: list[dict[str, Any]]) -> Table:
    names = {"ap": "AP", "acc_real": "real", "acc_fake": "fake"}
    published = any(row["published_ap"] is not None for row in rows)
    columns = {"input": "input", "generator": "generator", **names}
    columns |= {f"published_{name}": f"published {heading}" for name, heading in names.items()} if published else {}
    columns |= {"num_real": "n real", "num_fake": "n fake"}
    values = [*names, *(f"published_{name}" for name in names)]
    shown = [{**row, **{name: percent(row[name] and row[name] / 100) for name in values}} for row in rows]
    return Table("Detection on color and grayscale images", columns, shown)


def _metrics(rows: list[dict[str, Any]]) -> Table:
    names = {"ap": "AP", "real_calibrated": "real", "fake_calibrated": "fake", "real": "real at 0.5"}
    names |= {"fake": "fake at 0.5"}
    shown = [{**row, **{name: percent(row[name]) for name in names}} for row in rows]
    columns = {"ablation": "ablation", "generator": "generator", **names, "num_real": "n real", "num_fake": "n fake"}
    return Table("Detection under ablations", columns, shown)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: number(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def _card(shares: list[dict[str, Any]], ablation: str) -> Card:
    values = [row["share"] for row in shares]
    counts = "; ".join(
        f"{row['num_conditional']} of {row['num_channels']} on {row['generator'] or 'all images'}" for row in shares
    )
    what = "color-conditional" if ablation == GRAYSCALE else f"sensitive to {ablation}"
    ends = dict.fromkeys(percent(end(values), 0) for end in (min, max))
    return Card(f"Channels that respond to {ablation}", " to ".join(ends),
                f"of the tested channels are {what} (Mood's median test): {counts}.")  # fmt: skip
