"""The report: parts put together as one HTML file."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from markupsafe import Markup

from tffjax import __version__
from tffjax.report.color import color_part
from tffjax.report.dropout import dropout_part, find_k_part
from tffjax.report.generator import generator_part
from tffjax.report.heatmaps import heatmap_part
from tffjax.report.markup import DASH, Part, markdown, render, source_of
from tffjax.report.patches import patches_part
from tffjax.report.ranking import omega_by_generator, rank_part
from tffjax.report.sources import HEATMAP, Source

SECTIONS = {
    "overview": "Overview",
    "ranking": "Ranking",
    "dropout": "Channels switched off",
    "find-k": "Smallest k",
    "channels": "Channels",
    "color": "Color",
    "heatmaps": "Heatmaps",
    "generator": "Generator",
    "provenance": "Provenance",
}
"""Id of a section -> its heading, in the order of the page."""

_ONCE = ("lrpmax", "color")  # a channel page has room for one run of each


def report_page(sources: Sequence[Source], notes: str = "") -> str:
    """One self-contained HTML page; the same runs give the same text. `notes` (Markdown) end its overview.

    Runs of one kind follow each other in its section. A channel's page shows the last LRP-max run and the last color
    run.

    Raises:
        InputError: a file of a run is missing or damaged.
    """
    last = [source for source in sources if source.command == "lrpmax"][-1:]
    shown = [source for source in sources if source.command != "lrpmax" or source in last]
    parts = [_MAKERS[source.command](source) for source in shown]
    parts.sort(key=lambda part: list(SECTIONS).index(part.section))  # the order of the page, as its script expects
    data: dict[str, Any] = {"rankings": [], "curves": [], "whiskers": [], "effects": {}, "patches": {}, "color": {}}
    images: dict[str, bytes] = {}
    for part in parts:
        for name, value in part.data.items():
            merge = data.setdefault(name, type(value)())
            merge.extend(value) if isinstance(value, list) else merge.update(value)
        images |= part.images
    keys = list(dict.fromkeys((*data["patches"], *data["color"].get("tests", ()), *data["effects"])))
    data["channels"] = keys
    ranks = [source for source in sources if source.command == "rank"]
    data["omega"] = [{"run": source.name, "channels": omega_by_generator(source, keys)} for source in ranks]
    bodies = _bodies(sources, parts, notes)
    return _assemble(_title(sources), bodies, data, images)


_MAKERS: dict[str, Callable[[Source], Part]] = {
    "rank": rank_part,
    "dropout": dropout_part,
    "find-k": find_k_part,
    "lrpmax": patches_part,
    "color": color_part,
    "generator": generator_part,
    HEATMAP: heatmap_part,
}


def _title(sources: Sequence[Source]) -> str:
    cards = [source.weights for source in sources if source.record]
    if not cards:
        return "Heatmaps"
    return f"Forensic features of {cards[0]['source'] or cards[0]['architecture']}"


def _bodies(sources: Sequence[Source], parts: Sequence[Part], notes: str) -> dict[str, list[Markup]]:
    """Id of every section that has something to show -> what."""
    bodies = {"overview": [_overview(sources, parts, notes)]}
    for part in parts:
        bodies.setdefault(part.section, []).append(part.body)
    if runs := [source for source in sources if source.record]:
        rows = [
            {
                "command": run.command,
                "name": run.name,
                "rows": list(_flat({"folder": str(run.path), **run.record})),
            }
            for run in runs
        ]
        bodies["provenance"] = [render("provenance.html", runs=rows)]
    return bodies


def _overview(sources: Sequence[Source], parts: Sequence[Part], notes: str) -> Markup:
    cards = [source.weights for source in sources if source.record]
    names = {command: [source.name for source in sources if source.command == command] for command in _ONCE}
    return render(
        "overview.html",
        network=f"{cards[0]['architecture']}, {cards[0]['source'] or 'no source stated'}" if cards else "",
        runs=", ".join(source.command for source in sources),
        several={command: found[-1] for command, found in names.items() if len(found) > 1},
        found=[card for part in parts for card in part.cards],
        notes=markdown(notes),
    )


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name} \N{RIGHTWARDS ARROW} {key}" if name else key)
    elif isinstance(value, list):
        yield name, ", ".join(str(item) for item in value)
    else:
        yield name, DASH if value is None else str(value)


def _assemble(title: str, bodies: dict[str, list[Markup]], data: dict[str, Any], images: dict[str, bytes]) -> str:
    style, script = source_of("report.css"), source_of("report.js")
    return render(
        "page.html",
        title=title,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        sections=[
            {"name": name, "heading": heading, "bodies": bodies[name]}
            for name, heading in SECTIONS.items()
            if name in bodies
        ],
        version=__version__,
        data=Markup(_json(data)),
        images={name: base64.b64encode(image).decode() for name, image in images.items()},
    )


def _policy(style: str, script: str) -> str:
    """The content security policy: this style and this script, pictures from within the page, and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; "
        f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    )


def _json(data: Any) -> str:
    """JSON in which nothing can end the element that it stands in."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
