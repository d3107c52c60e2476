"""Dropout and the search for k: curves for the page's script, tables of the numbers, published ones beside ours."""

from typing import Any

import pyarrow as pa

from tffjax.nn import network_of
from tffjax.report.classes import classes_table
from tffjax.report.markup import Card, Part, Table, missing, number, percent, render, short
from tffjax.report.sources import Source
from tffjax.results.generators import ALL
from tffjax.studies.dropout.settings import BASELINE, counted

MEASURES = ("ap", "fake_calibrated", "real_calibrated", "fake", "real")
KINDS = ("top", "random", "low")
SHOWN = 20


def dropout_part(source: Source) -> Part:
    """Curves of a dropout run, its table as table E.1, and what single channels do."""
    values: dict[str, Any] = dict.fromkeys(
        ("numbers", "published", "curves", "classes", "effects", "effects_title", "steps")
    )
    data: dict[str, Any] = {}
    cards: list[Card] = []
    if source.has("dropout"):
        averaged, draws = source.table("dropout"), source.table("draws")
        chart = _curves(averaged, draws)
        if chart:
            data["curves"] = [{"generators": chart}]
            cards.append(_card(source, averaged))
        values |= {"curves": bool(chart), **_numbers(averaged)}
    if source.has("classes"):
        values["classes"] = classes_table(source.table("classes").to_pylist())
    if source.has("effects"):
        effects = source.table("effects").to_pylist()
        data["effects"] = {row["key"]: number(row["effect"], 4) for row in effects}
        values |= {"effects": _effects(effects), "effects_title": f"Effects of {len(effects)} channels alone"}
    if source.has("greedy"):
        values["steps"] = Table(
            "Channels that together lower the logit most",
            {"channels": "channels", "key": "added", "effect": "effect of all so far"},
            [{**row, "effect": short(row["effect"])} for row in source.table("greedy").to_pylist()],
        )
    return Part("dropout", render("dropout.html", **_run(source), **values), cards, data)


def find_k_part(source: Source) -> Part:
    """The k that was found, and the curve of what was evaluated on the way."""
    curve, k = source.table("find-k"), source.results["k"]
    criterion, warning = source.results["criterion"], source.results["warning"]
    verdict = f"k = {k}" if k else "No k"
    meaning = f"is the smallest for which {criterion}." if k else f"was found for which {criterion}."
    words = {"verdict": verdict, "meaning": meaning, "warning": warning}
    body = render("find-k.html", **_run(source), **words, **_numbers(curve))
    data = {"curves": [{"generators": _curves(curve, None), "mark": k}]}
    return Part("find-k", body, [Card("Smallest k that breaks detection", verdict, meaning)], data)


def _run(source: Source) -> dict[str, Any]:
    count = source.record["identity"]["images"]["count"]
    return {"count": count, "ranking": source.arguments["ranking"], "run": source.name}


def _curves(averaged: pa.Table, draws: pa.Table | None) -> list[dict[str, Any]]:
    """For each generator its counts and, by measure, baseline, published values and [k, value, low, high] of each kind.

    Low and high are over the draws of random-k. Empty if no setting counts channels.
    """
    rows = averaged.to_pylist()
    single = draws.to_pylist() if draws is not None else []
    if not any(counted(row["setting"]) for row in rows):
        return []
    charts = []
    for generator in dict.fromkeys(row["generator"] for row in rows):
        own = [row for row in rows if row["generator"] == generator]
        drawn = [row for row in single if row["generator"] == generator]
        base = next(row for row in own if row["setting"] == BASELINE.name)
        measures = {measure: _measure(own, drawn, base, measure) for measure in MEASURES}
        counts = {name: base[name] for name in ("num_real", "num_fake")}
        charts.append({"generator": generator, **counts, "measures": measures})
    return charts


def _measure(rows: list[dict], draws: list[dict], base: dict[str, Any], measure: str) -> dict[str, Any]:
    found: dict[str, Any] = {"baseline": number(base[measure]), "published": {}}
    for kind in KINDS:
        points, published = [], []
        for row in rows:
            if (counted(row["setting"]) or ("", 0))[0] != kind:
                continue
            k = counted(row["setting"])[1]
            spread = [draw[measure] for draw in draws if counted(draw["setting"]) == (kind, k)]
            spread = [value for value in spread if not missing(value)] if len(spread) > 1 else []
            points.append([k, number(row[measure]), *(number(end(spread)) for end in (min, max) if spread)])
            if row.get(f"published_{measure}") is not None:
                published.append([k, number(row[f"published_{measure}"])])
        if points:
            found[kind] = sorted(points)
        if published:
            found["published"][kind] = sorted(published)
    return found


def _numbers(rows: pa.Table) -> dict[str, Any]:
    """The table of all numbers, and the columns of published ones that are in it."""
    names = {"ap": "AP", "real_calibrated": "real", "fake_calibrated": "fake", "real": "real at 0.5"}
    names |= {"fake": "fake at 0.5", "threshold": "threshold (logit)"}
    published = [name for name in rows.column_names if name.startswith("published_")]
    published = [name for name in published if rows[name].null_count < len(rows)]
    columns = {"setting": "switched off", "generator": "generator", **names}
    columns |= {name: f"published {names[name.removeprefix('published_')]}" for name in published}
    columns |= {"num_real": "n real", "num_fake": "n fake"}
    shown = [
        {
            **row,
            **{name: percent(row[name]) for name in (*names, *published)},
            "threshold": short(row["threshold"]),
            "generator": row["generator"] or "(unknown)",
        }
        for row in rows.to_pylist()
    ]
    return {"numbers": Table("Detection with channels switched off", columns, shown), "published": published}


def _effects(effects: list[dict[str, Any]]) -> Table:
    rows = [
        {"key": row["key"], "omega": percent(row["omega"], 2), "effect": short(row["effect"])}
        for row in effects[:SHOWN]
    ]
    columns = {"key": "channel", "omega": "omega", "effect": "fall of the logit"}
    title = f"The {len(rows)} of {len(effects)} channels that, alone, lower the mean logit of fake images most"
    return Table(title, columns, rows)


def _card(source: Source, rows: pa.Table) -> Card:
    """The main finding at the k nearest to the paper's, or at the smallest one."""
    by = {(row["setting"], row["generator"]): row for row in rows.to_pylist()}
    wanted = network_of(source.weights["architecture"]).paper_k or 0
    kinds = [counted(setting) for setting, _ in by]
    ks = [kind[1] for kind in kinds if kind and kind[0] == "top"]
    generators = list(dict.fromkeys(generator for _, generator in by))
    group = ALL if ALL in generators and len(generators) > 1 else generators[0]
    k = min(ks, key=lambda k: abs(k - wanted))
    base, top, random = (by.get((name, group)) for name in (BASELINE.name, f"top-{k}", f"random-{k}"))
    where = "over all images" if group == ALL else f"on {group}" if group else "on the images"
    words = f"is AP {where} before and after the top {k} channels are switched off; accuracy on fake images goes from "
    words += f"{percent(base['fake_calibrated'])} to {percent(top['fake_calibrated'])}."
    if random:
        words += f" With {k} random channels: AP {percent(random['ap'])}, fake {percent(random['fake_calibrated'])}."
    falls = _falls(by, [name for name in generators if name != ALL], k)
    if len(falls) > 1:
        how = f"falls by {min(falls):.1f} to {max(falls):.1f}"
        if min(falls) < 0:
            how = f"changes by {-max(falls):+.1f} to {-min(falls):+.1f}"
        words += f" By generator, accuracy on fake images {how} points."
    numbers = f"{percent(base['ap'])} \N{RIGHTWARDS ARROW} {percent(top['ap'])}"
    return Card(f"Top {k} channels switched off", numbers, words)


def _falls(by: dict[tuple[str, str], dict], generators: list[str], k: int) -> list[float | int]:
    pairs = [
        (by[BASELINE.name, name]["fake_calibrated"], by[f"top-{k}", name]["fake_calibrated"]) for name in generators
    ]
    return [100 * (before - after) for before, after in pairs if not (missing(before) or missing(after))]
