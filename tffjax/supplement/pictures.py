"""F, J and M: pictures that runs have drawn, or that are drawn from them."""

from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.results.figures import save_figure
from tffjax.results.generators import in_order, shown_name
from tffjax.studies.figures import dropped_medians
from tffjax.supplement import facts
from tffjax.supplement.part import DPI, Part, Scene, said


def medians(scene: Scene) -> Part:
    """F.1: box plots of all generators.

    Raises:
        InputError: there are no fakes that count.
    """
    run = scene.run("color")
    save_figure(dropped_medians(run.folder), scene.out / "figure-F1", dpi=DPI)
    rows = {row["generator"]: row for row in run.table("whiskers_grayscale").to_pylist()}
    ours = "\n".join(
        f"{shown_name(row['generator'])}: median of {row['num']} fakes {row['median_before']:.1f} %, on their "
        f"grayscale versions {row['median_after']:.1f} %."
        for row in map(rows.__getitem__, in_order(rows))
    )
    return Part("F.1: probabilities of fakes on grayscale images", facts.MEDIANS, ours, ("figure-F1.png",))


def decisions(scene: Scene) -> Part:
    """J: heatmaps of the surest fakes."""
    folder = scene.run(scene.supplement.run_name("heatmap")).folder
    sheets = sorted(folder.glob("contact_sheet_*.png"), key=lambda path: (len(path.name), path.name))
    names = [f"figure-J{number}" for number in range(1, len(sheets) + 1)]
    for sheet, name in zip(sheets, names, strict=True):
        scene.copy(sheet.with_suffix(""), name, ("png", "pdf"))
    ours = "The fake of each generator of which the detector is surest."
    if scene.supplement.imagenet is None:
        ours += " An ImageNet network stands beside with --imagenet CHECKPOINT."
    return Part("J: heatmaps of single decisions", facts.HEATMAPS, ours, tuple(f"{name}.png" for name in names))


def generator(scene: Scene) -> Part:
    """M.1: scores without a generator's top channels.

    Raises:
        InputError: there is no generator.
    """
    folder = scene.run("generator").folder
    if not directory.is_done(folder):
        raise InputError("give a generator with --generator CHECKPOINT")
    scene.copy(folder / "figure-m1", "figure-M1", ("png", "pdf"))
    return Part("M.1: channels of a generator", facts.GENERATOR, said(scene.generator), ("figure-M1.png",))
