"""The page of an audit."""

import importlib.resources
from collections.abc import Sequence

from tffjax import __version__
from tffjax.data.duplicates import Group
from tffjax.data.traps import TRAPS, Trap
from tffjax.report.markup import DASH, Html, card, join, percent, table, tag

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
    style = (importlib.resources.files("tffjax.report") / "report.css").read_text(encoding="utf-8")
    body = [
        tag("header", tag("h1", "Audit of a data set")),
        tag(
            "main",
            _section("Traps", _cards(found), _accuracies(traps), _method(limit)),
            _section("What the values are", _values(traps)),
            _section("Duplicates", _duplicates(groups, names)),
        ),
        tag("footer", f"Made by tffjax {__version__}."),
    ]
    head = join([
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", "Audit of a data set"),
        tag("style", Html(style)),
    ])  # fmt: skip
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', *body), lang='en')}\n"


def _section(heading: str, *children: Html) -> Html:
    return tag("section", tag("h2", heading), *children)


def _cards(found: Sequence[tuple[str, Trap]]) -> Html:
    if not found:
        return tag("p", "No fact about the files tells real from fake images.")
    cards = [card(f"{trap.name}, {generator}", percent(trap.accuracy), ADVICE[trap.name]) for generator, trap in found]
    return tag("div", *cards, class_="cards")


def _accuracies(traps: Sequence[tuple[str, Trap]]) -> Html:
    generators = list(dict.fromkeys(generator for generator, _ in traps))
    of = {(generator, trap.name): trap for generator, trap in traps}
    rows = [{"trap": name, **{generator: _cell(of[generator, name]) for generator in generators}} for name in TRAPS]
    caption = "Balanced accuracy of a decision tree that sees one fact; bold: gives the labels away"
    return table(caption, {"trap": "trap", **dict(zip(generators, generators, strict=True))}, rows)


def _cell(trap: Trap) -> str:
    text = percent(trap.accuracy)
    return tag("strong", text) if trap.gives_away else text


def _method(limit: float) -> Html:
    return tag(
        "p",
        f"Chance is 50 %. A trap counts above {percent(limit, 0)} and three standard errors above chance. Accuracies "
        f"are means over both labels, in five-fold cross-validation; {DASH}: fewer than two images of a label have it.",
        class_="soft",
    )


def _values(traps: Sequence[tuple[str, Trap]]) -> Html:
    rows = [
        {"generator": generator, "trap": trap.name, "real": tag("span", trap.real), "fake": tag("span", trap.fake)}
        for generator, trap in traps
        if trap.gives_away or generator == traps[0][0]
    ]
    columns = {"generator": "generator", "trap": "trap", "real": "real images", "fake": "fake images"}
    return table("Medians (10 % to 90 %), or the most frequent values", columns, rows)


def _duplicates(groups: Sequence[Group], names: Sequence[str]) -> Html:
    if not groups:
        return tag("p", "No image is there twice.")
    rows = [
        {
            "kind": "the same file" if group.kind == "exact" else "nearly the same picture",
            "across": " and ".join(word for word, yes in (("labels", group.labels), ("splits", group.splits)) if yes),
            "images": ", ".join(names[i] for i in group.members),
        }
        for group in groups[:SHOWN]
    ]
    more = f"; the first {SHOWN} of {len(groups)}" if len(groups) > SHOWN else ""
    said = "Fakes made from a real image, as by CycleGAN, resemble it: near duplicates across labels are no trap by "
    said += "themselves. Any duplicate across splits is."
    columns = {"kind": "duplicate", "across": "across", "images": "images"}
    return join([table(f"Groups of duplicates{more}", columns, rows), tag("p", said, class_="soft")])
