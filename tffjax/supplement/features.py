"""D and H: what T-FF look at, and how they respond to color."""

from pathlib import Path

from tffjax.errors import InputError
from tffjax.results.figures import save_figure
from tffjax.results.generators import in_order, shown_name
from tffjax.results.run_result import RunResult
from tffjax.studies.figures import channels_of, collage, density_grid
from tffjax.studies.rankings import Channel
from tffjax.studies.selection import CONDITIONAL, UNCONDITIONAL
from tffjax.supplement import facts
from tffjax.supplement.part import DPI, Part, Scene

ROWS, EACH = 8, 2
"""Channels that a figure shows, and images of each of them and generator."""

NUMBERS = {
    (CONDITIONAL, False): ("D.1", "D.2"),
    (UNCONDITIONAL, False): ("D.3", "D.4"),
    (CONDITIONAL, True): ("H.1", "H.2"),
    (UNCONDITIONAL, True): ("H.3", "H.4"),
}
"""Which channels, whether of an EfficientNet -> the supplement's numbers of the collage and of the densities."""

WORDS = {CONDITIONAL: "color-conditional T-FF", UNCONDITIONAL: "T-FF that are not color-conditional"}


def features(scene: Scene, where: str) -> Part:
    """Collage and densities of the first T-FF that respond to color, or do not.

    Raises:
        InputError: there are none.
    """
    numbers = NUMBERS[where, scene.card.architecture.startswith("efficientnet")]
    color, patches = (scene.run(name).folder for name in ("color", "lrpmax"))
    channels, which = _chosen(patches, color, where)
    figures = collage(patches, channels, each=EACH), density_grid(color, channels)
    names = [f"figure-{number.replace('.', '')}" for number in numbers]
    for name, figure in zip(names, figures, strict=True):
        save_figure(figure, scene.out / name, dpi=max(round(figure.dpi), DPI))
    count = "The one channel" if len(channels) == 1 else f"The first {len(channels)} channels"
    what = "color-conditional" if where == CONDITIONAL else "not color-conditional"
    ours = f"{count} of the ranking {'that is' if len(channels) == 1 else 'that are'} {what} on the fakes of {which}."
    title = f"{numbers[0]}, {numbers[1]}: {WORDS[where]}"
    return Part(title, facts.FEATURES, ours, tuple(f"{name}.png" for name in names))


def _chosen(patches: Path, color: Path, where: str) -> tuple[tuple[Channel, ...], str]:
    """The first channels that are so on all generators or, if none is, on the first generator with some; and on which.

    Raises:
        InputError: there are none.
    """
    names = in_order(RunResult(color).table("shares")["generator"].to_pylist())
    conditions = {where: "every generator"} | {
        f"{where}:{name}": f"{shown_name(name)} (none is on those of every generator)" for name in names if name
    }
    for condition, which in conditions.items():
        try:
            return channels_of(patches, "lrpmax", None, condition, color, ROWS), which
        except InputError:
            continue
    raise InputError(f"of the channels that were tested none is {where} on the fakes of any generator")
