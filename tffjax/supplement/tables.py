"""The ranking, E, G and I: numbers beside the paper's."""

from markupsafe import Markup

from tffjax.errors import InputError
from tffjax.pipeline.reporter import Silent
from tffjax.report.markup import Table, percent, render
from tffjax.results.generators import ALL, shown_name
from tffjax.studies.color.across import across
from tffjax.studies.color.tables import COLUMNS, OURS
from tffjax.studies.comparison import compare_rankings, write_comparison
from tffjax.supplement import facts
from tffjax.supplement.part import Part, Scene, said
from tffjax.supplement.start import released_ranking

WIDE = ("csv", "tex", "html")


def ranking(scene: Scene) -> Part:
    """Our FF-RS ranking beside the released one.

    Raises:
        InputError: there is none of this detector.
    """
    theirs = released_ranking(scene.card, scene.supplement.released)
    if theirs is None or scene.detector is None or scene.detector.startswith("CR-"):
        known = scene.detector and not scene.detector.startswith("CR-")
        what = "give a clone of the released code with --released" if known else "this is none of them"
        raise InputError(f"the released rankings are of ResNet-50 and EfficientNet-B0; {what}")
    k = scene.supplement.whole.k or 1
    found = compare_rankings(scene.run("rank").folder / "ranking_fake.csv", theirs, [k])
    folder = write_comparison(found, scene.run("compare").folder, overwrite=True).folder
    scene.copy(folder / "compare", "figure-ranking", ("png", "pdf"))
    files = scene.copy(folder / "overlap", "table-ranking", ("csv",))
    overlap, correlation = found.overlap.to_pylist()[0], found.correlations.to_pylist()[0]
    ours = (
        f"{overlap['common']} of the top {k} channels are in both rankings (by chance {overlap['expected']:.2f}); "
        f"Spearman's rank correlation over all channels is {correlation['spearman']:.3f}."
    )
    title = "FF-RS ranking beside the released one"
    return Part(title, facts.RANKING, ours, ("figure-ranking.png",), files=files)


def dropout(scene: Scene) -> Part:
    """Table E.1, and its curves."""
    run = scene.run("dropout")
    files = scene.copy(run.folder / "table-e1", "table-E1", WIDE)
    scene.copy(run.folder / "dropout", "figure-E1", ("png", "pdf"))
    ours = said(scene.dropout)
    if scene.detector:
        paper = facts.dropout_facts(scene.detector, scene.supplement.whole.k)
        ours += f"\n{facts.agreement(run.table('dropout'), 'setting', OURS, 100)}"
    else:
        paper = " ".join(facts.dropout_facts(*one) for one in (("ResNet-50", 114), ("EfficientNet-B0", 27)))
    return Part("E.1: feature-map dropout", paper, ours, ("figure-E1.png",), _html(scene, "table-E1"), files)


def grayscale(scene: Scene) -> Part:
    """Table I.1 or I.2."""
    number = 2 if scene.card.architecture.startswith("efficientnet") else 1
    run, name = scene.run("color"), f"table-I{number}"
    files = scene.copy(run.folder / "table-i1", name, WIDE)
    ours = said(scene.color)
    if scene.detector:
        paper = facts.grayscale_facts(scene.detector)
        ours += f"\n{facts.agreement(run.table('grayscale'), 'input', COLUMNS, 1)}"
    else:
        paper = " ".join(map(facts.grayscale_facts, ("ResNet-50", "EfficientNet-B0")))
    title = f"I.{number}: detection on color and grayscale images"
    return Part(title, paper, ours, (), _html(scene, name), files)


def control(scene: Scene) -> Part:
    """G: what grayscale does to an ImageNet network and to the detector.

    Raises:
        InputError: there is no ImageNet network; as `across`.
    """
    if scene.supplement.imagenet is None:
        raise InputError("give an ImageNet network with --imagenet CHECKPOINT")
    imagenet, out = (scene.run(scene.supplement.run_name(name)).folder for name in ("imagenet-color", "across"))
    found = across((scene.run("color").folder, imagenet), out, overwrite=True, reporter=Silent())
    scene.copy(found.folder / "networks", "figure-G", ("png", "pdf"))
    files = scene.copy(found.folder / "networks", "table-G", ("csv",))
    rows = found.table("networks").to_pylist()
    shown = [
        {**row, "generator": ALL if row["generator"] == ALL else shown_name(row["generator"])}
        | {name: f"{round(row[name], 1) + 0.0:.1f}" for name in ("median_before", "median_after", "drop")}
        | {"kept": percent(row["kept"])}
        for row in rows
    ]
    columns = {"network": "network", "generator": "fakes of", "num": "images", "median_before": "median [%]"}
    columns |= {"median_after": "grayscale [%]", "drop": "drop", "kept": "decisions kept"}
    caption = "Probability of each network's decision; a classifier's is its top class on the original image"
    table = render("supplement-table.html", data=Table(caption, columns, shown))
    last = {row["network"]: row for row in rows}  # the last row of a network is of all its fakes
    ours = "\n".join(
        f"{name}: median over all {row['num']} fakes {row['median_before']:.1f} %, on grayscale images "
        f"{row['median_after']:.1f} %; {percent(row['kept'], 0)} of the decisions are kept."
        for name, row in last.items()
    )
    return Part("G: within one model against across models", facts.CONTROL, ours, ("figure-G.png",), table, files)


def _html(scene: Scene, name: str) -> Markup:
    return Markup((scene.out / f"{name}.html").read_text(encoding="utf-8"))
