"""The study of a generator: what masking does, where the top channels are, and the pictures."""

from collections.abc import Sequence
from typing import Any

from tffjax.report.heatmaps import webp
from tffjax.report.markup import Card, Part, Table, percent, render, short
from tffjax.report.sources import Source
from tffjax.studies.dropout.settings import BASELINE

_FIGURES = {
    "figure-m1": "Probability of being fake before and after masking (figure M.1)",
    "masking": "Probability against the percentage of masked channels",
    "layers": "Relevance that reaches each layer, and its part of the top channels",
    "images": "The same latents with nothing, the top and random channels masked",
}
SHOWN = 20


def generator_part(source: Source) -> Part:
    """Figure M.1, the masking curve, tables of settings and layers."""
    results = source.results
    rows, layers = source.table("masking").to_pylist(), source.table("layers").to_pylist()
    best = source.table("statistics").slice(0, SHOWN).to_pylist()
    images = {f"generator {source.path} {name}": webp(source.file(f"{name}.png"), source.command) for name in _FIGURES}
    body = render(
        "generator.html",
        images=f"{results['images']:,}",
        generator=results["generator"],
        detected=percent(results["detected"]),
        run=source.name,
        figures=dict(zip(images, _FIGURES.values(), strict=True)),
        tables={
            "All sets of masked channels": _masking(rows),
            "Layers": _layers(layers),
            f"The first {SHOWN} channels": _channels(best),
        },
    )
    return Part("generator", body, [_card(rows, results["k"])], images=images)


def _card(rows: Sequence[dict[str, Any]], k: int) -> Card:
    base, top, random = (
        next(row for row in rows if row["setting"] == name) for name in (BASELINE.name, f"top-{k}", f"random-{k}")
    )
    return Card(
        "Channels of the generator",
        f"{percent(base['median'])} \N{RIGHTWARDS ARROW} {percent(top['median'])}",
        f"is what masking the top {k} of its channels makes of the median probability; random ones: "
        f"{percent(random['median'])}.",
    )


def _masking(rows: Sequence[dict[str, Any]]) -> Table:
    columns = {
        "setting": "masked",
        "draws": "draws",
        "median": "median",
        "drop": "drop",
        "range": "medians of draws",
        "detected": "found",
        "psnr": "PSNR [dB]",
        "color": "color shift",
        "detail": "fine detail",
    }
    shown = [
        {
            "setting": row["setting"],
            "draws": short(row["draws"]),
            **{name: percent(row[name]) for name in ("median", "drop", "detected")},
            "range": f"{percent(row['median_low'])} to {percent(row['median_high'])}",
            **{name: short(row[name]) for name in ("psnr", "color", "detail")},
        }
        for row in rows
    ]
    return Table("Median probability of being fake, and how far the images moved", columns, shown)


def _layers(rows: Sequence[dict[str, Any]]) -> Table:
    columns = {"site": "site", "channels": "channels", "relevance": "relevance", "top": "top", "share": "share"}
    shown = [
        {"site": row["site"], "channels": short(row["channels"]), "relevance": short(row["relevance"]),
         "top": short(row["top"]), "share": percent(row["share"])}
        for row in rows
    ]  # fmt: skip
    return Table("Relevance (of 1 at the logit) and top channels of every layer", columns, shown)


def _channels(rows: Sequence[dict[str, Any]]) -> Table:
    columns = {"rank": "rank", "key": "channel", "omega": "\N{GREEK SMALL LETTER OMEGA}", "in_top": "in top"}
    shown = [
        {
            "rank": short(row["rank"]),
            "key": row["key"],
            "omega": percent(row["omega"]),
            "in_top": percent(row["in_top"], 0),
        }
        for row in rows
    ]
    return Table("Share of its site's relevance, and of bootstrap replicates that have it on top", columns, shown)
