"""The page of an audit."""

from collections.abc import Sequence

from markupsafe import Markup

from tffjax import __version__
from tffjax.data.duplicates import Group
from tffjax.data.traps import TRAPS, Trap
from tffjax.report.markup import DASH, Card, Table, percent, render, source_of

SHOWN = 100

ADVICE = {
    "format": "Write all images in one format, by one tool; traces of JPEG stay in the pixels (JPEG grid).",
    "size": "Crop all images to one size (--crop), or leave out those of other sizes.",
    "aspect": "Crop all images to squares (--crop).",
    "JPEG quality": "Compress all images again at one quality, or take images of one quality only.",
    "JPEG sampling": "Compress all images again with one setting.",
    "metadata": "Harmless to networks, which never see it, but the images come from different tools or cameras.",
    "bit depth": "Convert all images to 8-bit RGB; ask where gray or deep images come from.",
    "JPEG grid": "One label was JPEG once, whatever it is now, or its generator has period 8. Compress all alike.",
    "mean color": "The labels show other things or other light: match contents, and see tffjax color.",
}


def audit_page(traps: Sequence[tuple[str, Trap]], groups: Sequence[Group], names: Sequence[str], limit: float) -> str:
    """A self-contained HTML page; the same findings give the same text."""
    found = [(generator, trap) for generator, trap in traps if trap.gives_away]
    return render(
        "audit.html",
        version=__version__,
        style=Markup(source_of("report.css")),
        found=[
            Card(f"{trap.name}, {generator}", percent(trap.accuracy), ADVICE[trap.name]) for generator, trap in found
        ],
        accuracies=_accuracies(traps),
        limit=percent(limit, 0),
        dash=DASH,
        values=_values(traps),
        duplicates=_duplicates(groups, names) if groups else None,
    )


def _accuracies(traps: Sequence[tuple[str, Trap]]) -> Table:
    generators = list(dict.fromkeys(generator for generator, _ in traps))
    of = {(generator, trap.name): trap for generator, trap in traps}
    rows = [{"trap": name, **{generator: _cell(of[generator, name]) for generator in generators}} for name in TRAPS]
    caption = "Balanced accuracy of a decision tree that sees one fact; bold: gives the labels away"
    return Table(caption, {"trap": "trap", **dict(zip(generators, generators, strict=True))}, rows)


def _cell(trap: Trap) -> str:
    text = percent(trap.accuracy)
    return Markup("<strong>{}</strong>").format(text) if trap.gives_away else text


def _values(traps: Sequence[tuple[str, Trap]]) -> Table:
    rows = [
        {"generator": generator, "trap": trap.name, "real": trap.real, "fake": trap.fake}
        for generator, trap in traps
        if trap.gives_away or generator == traps[0][0]
    ]
    columns = {"generator": "generator", "trap": "trap", "real": "real images", "fake": "fake images"}
    return Table("Medians (10 % to 90 %), or the most frequent values", columns, rows)


def _duplicates(groups: Sequence[Group], names: Sequence[str]) -> Table:
    rows = [
        {
            "kind": "the same file" if group.kind == "exact" else "nearly the same picture",
            "across": " and ".join(word for word, yes in (("labels", group.labels), ("splits", group.splits)) if yes),
            "images": ", ".join(names[i] for i in group.members),
        }
        for group in groups[:SHOWN]
    ]
    more = f"; the first {SHOWN} of {len(groups)}" if len(groups) > SHOWN else ""
    columns = {"kind": "duplicate", "across": "across", "images": "images"}
    return Table(f"Groups of duplicates{more}", columns, rows)
