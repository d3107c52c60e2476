"""`tffjax figure`: figures of the paper's supplement, drawn from finished runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from tffjax.cli.channels import choice_options
from tffjax.cli.console import Talk, overwrite_option, quiet_option
from tffjax.cli.numbers import TOP, RealRange
from tffjax.results.words import fewer_channels, number_of
from tffjax.studies.figures import channels_of, collage, density_grid, dropped_medians, write_figures
from tffjax.studies.rankings import Channel


class Names(click.ParamType):
    """Names with commas between them."""

    name = "name,name,..."

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> list[str]:
        """The names."""
        return value.split(",") if isinstance(value, str) else value


_RUNS = click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN...")
_GENERATORS = click.option(
    "--generators", type=Names(), help="These, in this order. [default: all; ProGAN and the paper's first]"
)
_ABLATION = click.option("--ablation", default="grayscale", show_default=True, help="Of the run.")
_PLACE = (
    click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make."),
    overwrite_option,
    quiet_option,
)


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_PLACE):
        command = option(command)
    return command


def _channel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    k = click.option("--k", type=click.IntRange(min=1), help="The first so many of them. [default: all]")
    return choice_options(k(command))


@click.group()
def figure() -> None:
    """Draw a figure of the paper's supplement from finished runs: nothing is computed again.

    Writes PNG and PDF, 12 channels a page, and run.json with the provenance.

    \b
    Example:
      tffjax figure collage patches/ --where color-conditional --color color/ --out D.1
      tffjax figure densities color/ --where color-conditional --color color/ --out D.2
      tffjax figure medians color/ --out F.1
    """


@figure.command("collage")
@_RUNS
@_channel_options
@_GENERATORS
@click.option("--each", type=TOP, default=1, show_default=True, help="Images of each channel and generator.")
@click.option("--context", type=RealRange(1, 50), help="Show so many times the patch's side, and a frame around it.")
@click.option("--heat", is_flag=True, help="Show the neuron's positive relevance over the gray patch.")
@click.option("--no-stretch", is_flag=True, help="Leave dark patches dark.")
@_place_options
def collage_command(runs: tuple[Path, ...], no_stretch: bool, **given: Any) -> None:
    """Patches of LRP-max, a row for each channel, a column for each generator (D.1, D.3, H.1, H.3).

    RUN is a run of `tffjax lrpmax`; several may hold a generator each. Dark patches are lightened, with the factor in
    their corner.

    \b
    Example:
      tffjax figure collage patches/ --keys 'layer1.0.conv1.#63(T=64),conv1.#7(T=64)' --out collage
      tffjax figure collage patches/ --k 10 --each 4 --generators progan,stylegan,biggan --out collage
      tffjax figure collage patches/ --k 10 --context 3 --heat --out collage
    """
    look = {"each": given["each"], "context": given["context"], "heat": given["heat"], "stretch": not no_stretch}
    _draw("collage", "lrpmax", runs, given, look, collage)


@figure.command("densities")
@_RUNS
@_channel_options
@_GENERATORS
@_ABLATION
@_place_options
def densities_command(runs: tuple[Path, ...], **given: Any) -> None:
    """Densities of maximal activations before and after grayscale, channels by generators (D.2, D.4, H.2, H.4).

    RUN is a run of `tffjax color`. All generators have the same channels; medians, Mood's p and the effect are above
    each panel, in bold where p is at most 0.05. Of fewer than 30 images they are histograms.

    \b
    Example:
      tffjax figure densities color/ --k 8 --out densities
      tffjax figure densities color/ --where not-color-conditional --color color/ --out D.4
    """
    _draw("densities", "color", runs, given, {"ablation": given["ablation"]}, density_grid)


@figure.command("medians")
@_RUNS
@_GENERATORS
@_ABLATION
@_place_options
def medians_command(runs: tuple[Path, ...], **given: Any) -> None:
    """Probabilities of fakes before and after grayscale as box plots, with the drop of the medians (F.1).

    RUN is a run of `tffjax color`. Fakes count whose probability before is at least 20 %.

    \b
    Example:
      tffjax figure medians color/ --out F.1
    """
    look = {"generators": given["generators"], "ablation": given["ablation"]}

    def draw(_: Sequence[Channel]) -> Any:
        return dropped_medians(runs, **look)

    write_figures("medians", runs, given["out"], draw, (), look, given["overwrite"])
    Talk(given["quiet"]).say(f"figure in {given['out']}")


def _draw(
    kind: str, command: str, runs: tuple[Path, ...], given: dict[str, Any], look: dict[str, Any], figure: Callable
) -> None:
    chosen = {name: given[name] for name in ("keys", "where", "color", "k")}
    channels = channels_of(runs, command, **chosen)
    talk, look = Talk(given["quiet"]), {**look, "generators": given["generators"]}
    if given["k"] and (word := fewer_channels(len(channels), given["k"])):
        talk.warn(word)
    arguments = {**look, **chosen, "color": given["color"] and str(given["color"].absolute())}
    write_figures(
        kind, runs, given["out"], lambda page: figure(runs, page, **look), channels, arguments, given["overwrite"]
    )
    talk.say(f"{number_of(len(channels), 'channel')} drawn, in {given['out']}")
