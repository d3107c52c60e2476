"""The ranking: all channels, compactly, for the page's table."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tffjax.data import LABELS
from tffjax.report.markup import Card, Part, number, percent, render
from tffjax.report.sources import Source
from tffjax.studies.ffrs.target import target_text
from tffjax.studies.rankings import parse_key

SURE = 0.95
"""A channel is surely in the top-k if so many of the bootstrap replicates have it there."""

_NUMBERS = {"omega": 6, "standard_error": 3, "low": 5, "high": 5, "in_top": 3}


def rank_part(source: Source) -> Part:
    """Rankings of a run, a list of `{run, label, title, k, images, site, channel, ...}` with one array a column."""
    table, k = source.table("statistics"), source.results["k"]
    rankings, cards = [], []
    for label in dict.fromkeys(table["label"].to_pylist()):
        own = table.filter(pc.equal(table["label"], label)).sort_by("rank")
        kept = source.results["images"][label]["kept"]
        title = _images(source, label)
        rankings.append({"run": source.name, "label": label, "title": title, "k": k, "images": kept, **_columns(own)})
        cards.append(_card(source, own, label, k))
    counts = ", ".join(
        f"{images['kept']:,} {'' if label in LABELS else 'images, '}{_images(source, label)} "
        f"({images['dropped']:,} more were left out by --confidence)"
        for label, images in source.results["images"].items()
    )
    body = render("ranking.html", counts=counts, composite=source.arguments["composite"], run=source.name)
    return Part("ranking", body, cards, {"rankings": rankings})


def omega_by_generator(source: Source, keys: Collection[str]) -> dict[str, list[list[Any]]]:
    """Key -> [label, generator, omega, images] of every generator, for some channels."""
    if not source.has("groups"):
        return {}
    table = source.table("groups")
    if not table.num_rows:
        return {}
    wanted = pc.and_(pc.equal(table["category"], ""), pc.is_in(table["key"], pa.array(list(keys), pa.string())))
    found: dict[str, list[list[Any]]] = {}
    for row in table.filter(wanted).to_pylist():
        values = [row["label"], row["generator"], number(row["omega"], 4), row["images"]]
        found.setdefault(row["key"], []).append(values)
    return found


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    """Sites by name once, channels by their place in them; the rest as plain lists."""
    channels = [parse_key(key) for key in table["key"].to_pylist()]
    sites = {channel.site: channel.channels for channel in channels}
    place = {site: index for index, site in enumerate(sites)}
    columns: dict[str, list[Any]] = {
        "sites": [list(site) for site in sites.items()],
        "site": [place[channel.site] for channel in channels],
        "channel": [channel.index for channel in channels],
    }
    for name, digits in _NUMBERS.items():
        columns[name] = [number(value, digits) for value in table[name].to_pylist()]
    for name in ("rank_low", "rank_high"):
        columns[name] = table[name].to_pylist()
    return columns


def _images(source: Source, label: str) -> str:
    return f"{label} images" if label in LABELS else target_text(label, source.weights.get("class_names"))


def _card(source: Source, table: pa.Table, label: str, k: int) -> Card:
    best = table.slice(0, 1).to_pylist()[0]
    top = table.slice(0, k)["in_top"].to_pylist()
    sure = sum(share is not None and share >= SURE for share in top)
    words = f"is the largest share of its site's relevance, that of {best['key']}, out of {len(table):,} channels."
    if None not in top:
        words += f" {sure} of the top {k} are in the top {k} of at least {SURE:.0%} of the bootstrap replicates."
    return Card(f"Ranking of {_images(source, label)}", percent(best["omega"]), words)
