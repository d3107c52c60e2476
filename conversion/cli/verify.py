"""`tffjax verify`: proof that the JAX network computes what PyTorch computes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table
from tffjax.conversion.cli import require_torch

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused, start_jax
from tffjax.cli.images import size_options
from tffjax.data.preprocessing import Resize, Transform, normalize
from tffjax.errors import CheckFailed
from tffjax.nn.card import Card
from tffjax.pipeline.groups import read_groups, synthetic_images
from tffjax.places import Place, look_for_file, new_file

if TYPE_CHECKING:
    from tffjax.conversion.verify import Difference, Verification
    from tffjax.conversion.verify_lrp import LrpDifference
    from tffjax.conversion.verify_studies import Studies, StudyDifference


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="Image or folder. [default: two synthetic images]")
@click.option("--limit", type=click.IntRange(min=1), default=4, show_default=True, help="Use at most this many images.")
@size_options
@click.option("--lrp", is_flag=True, help="Compare the relevance at every site too.")
@click.option("--studies", is_flag=True, help="Compare what FF-RS, LRP-max and dropout say of these images too.")
@click.option(
    "--composite",
    type=click.Choice(["beta0", "beta1", "beta-adaptive", "epsilon", "epsilon-plus"]),
    default="beta0",
    show_default=True,
    help="Composite for --lrp and --studies.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all figures to this file too.")
@overwrite_option
@quiet_option
def verify(
    checkpoint: Path,
    images: Path | None,
    limit: int,
    resize: Resize | None,
    crop: int | None,
    lrp: bool,
    studies: bool,
    composite: str,
    json_path: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Run our PyTorch network and the JAX network on the same pixels and compare them, site by site.

    CHECKPOINT is a folder written by `tffjax convert`, or a PyTorch file, which is then converted in memory. In float64
    both must agree to 1e-10 of a site's largest value, in float32 to 1e-3 (rounding grows through the layers). Exit
    code 1 if they do not. --lrp explains the largest output of each image with both and compares the relevance maps.
    --studies compares what the studies say of these images: FF-RS, LRP-max of channels along the depth, and logits
    without the first and the last channels of the ranking. Generators are run on four latents.

    \b
    Example:
      tffjax verify detector --images images/
      tffjax verify detector --lrp --composite beta1
      tffjax verify detector --images images/ --crop 128 --studies
      tffjax verify detector.pth --json differences.json
      tffjax verify generator.pth
    """
    if images is None:
        refuse_unused("without --images", "limit", "resize", "crop")
    if not lrp and not studies:
        refuse_unused("without --lrp or --studies", "composite")
    if json_path is None:
        refuse_unused("without --json", "overwrite")
    place = look_for_file(json_path, overwrite) if json_path else None
    require_torch()
    from tffjax.conversion.convert import Asked, convert_payload
    from tffjax.conversion.generator import generator_in, load_file

    from tffjax.nn.generator import is_generator

    is_file = checkpoint.is_file()
    payload = load_file(checkpoint) if is_file else None
    if generator_in(payload, checkpoint) is not None if is_file else is_generator(checkpoint):
        refuse_unused(
            "for a generator", "images", "limit", "resize", "crop", "lrp", "studies", "composite", "json_path"
        )
        _verify_generator(Talk(quiet), checkpoint)
        return
    from tffjax.conversion.twin import twin_from_variables
    from tffjax.conversion.verify import verify_forward

    from tffjax.nn import checkpoint as checkpoints

    talk = Talk(quiet)
    start_jax()
    model = convert_payload(payload, checkpoint, Asked()).model if is_file else checkpoints.load(checkpoint)
    card = model.card
    net = twin_from_variables(model.variables, card.architecture, card.graph)
    groups = [synthetic_images()] if images is None else read_groups(talk, [images], limit, Transform(resize, crop))
    names = [Path(name).name for group in groups for name in group.names]
    batches = [normalize(group.pixels, card.normalization) for group in groups]
    result = verify_forward(model, net, batches, talk.busy)
    talk.say(_site_table(result.differences))
    talk.say(_logit_table(result, names, card))
    explained: tuple[LrpDifference, ...] = ()
    if lrp:
        from tffjax.conversion.verify_lrp import verify_lrp

        explained = verify_lrp(model, net, batches, composite, talk.busy)
        talk.say(_lrp_table(explained, composite))
    said: Studies | None = None
    if studies:
        from tffjax.conversion.verify_studies import verify_studies

        said = verify_studies(model, net, batches, names, composite, talk.busy)
        talk.say(_shown_table(said))
        talk.say(_study_table(said))
    if place:
        _write_json(place, checkpoint, result, explained, said, names)
    _conclude(talk, f"{checkpoint} computes the same numbers in JAX and PyTorch", result.differences)
    if lrp:
        _conclude(talk, f"the relevances of {composite} are the same", explained)
    if said:
        _conclude(talk, f"FF-RS, LRP-max and dropout of {len(names)} images say the same", said.differences)
    talk.say(_scope(card))


def _verify_generator(talk: Talk, path: Path) -> None:
    from tffjax.conversion.verify_generator import verify_generator

    start_jax()
    with talk.busy(f"comparing the generator {path} with PyTorch"):
        differences = verify_generator(path)
    talk.say(_site_table(differences))
    _conclude(talk, f"{path} makes the same images in JAX and PyTorch", differences)


def _scope(card: Card) -> str:
    """What this proves and what it cannot."""
    proves = f"this proves the arithmetic of {card.architecture} with {card.graph}, in both frameworks"
    if card.graph_source == "proven":
        return f"{proves}; that the original network has this graph was proven on its outputs: {card.proof}"
    if card.graph_source == "keys":
        return f"{proves}; the names of the weights leave no other graph"
    return (
        f"{proves}; it cannot prove that the original network has this graph, which was {card.graph_source}: "
        "tffjax convert --expect does, on outputs of that network"
    )


def _conclude(talk: Talk, claim: str, differences: "tuple[Difference | LrpDifference | StudyDifference, ...]") -> None:
    """Say that the claim holds, with the largest differences, or raise CheckFailed where it does not."""
    for bad in differences:
        if not bad.ok:
            raise CheckFailed(f"{bad.place} differs by {bad.relative:.1e} in {bad.dtype}, relative to its size")
    worst = {t: max(d.relative for d in differences if d.dtype == t) for t in ("float32", "float64")}
    talk.say(
        f"equal: {claim} (largest relative difference {worst['float32']:.1e} in float32, "
        f"{worst['float64']:.1e} in float64)"
    )


def _site_table(differences: "tuple[Difference, ...]") -> Table:
    by_dtype = {dtype: [d for d in differences if d.dtype == dtype] for dtype in ("float32", "float64")}
    table = Table(title="largest difference per site", title_justify="left")
    table.add_column("site", no_wrap=True)
    for column in ("float32 absolute", "relative", "float64 absolute", "relative", ""):
        table.add_column(column, justify="right")
    for a, b in zip(by_dtype["float32"], by_dtype["float64"], strict=True):
        figures = (f"{value:.1e}" for value in (a.absolute, a.relative, b.absolute, b.relative))
        verdict = "ok" if a.ok and b.ok else "[red]DIFFERS[/red]"
        table.add_row(a.place, *figures, verdict)
    return table


def _logit_table(result: "Verification", names: list[str], card: Card) -> Table:
    many = result.ours["float32"].shape[1] > 1
    table = Table(title="largest logit of each image" if many else "logits", title_justify="left")
    table.add_column("image")
    for column in (["output"] if many else []) + ["torch float32", "jax float32", "torch float64", "jax float64"]:
        table.add_column(column, justify="right")
    top = result.theirs["float64"].argmax(axis=1)
    for row, (name, output) in enumerate(zip(names, top, strict=True)):
        values = [side[dtype][row, output] for dtype in ("float32", "float64") for side in (result.theirs, result.ours)]
        formats = (".6f", ".6f", ".12f", ".12f")
        figures = [format(value, spec) for value, spec in zip(values, formats, strict=True)]
        table.add_row(escape(name), *([escape(card.output_text(output))] if many else []), *figures)
    return table


def _lrp_table(differences: "tuple[LrpDifference, ...]", composite: str) -> Table:
    table = Table(title=f"relevance ({composite}): worst image at each site", title_justify="left")
    table.add_column("site", no_wrap=True)
    for column in ("float32 relative", "float64 relative", "rank correlation", "top-channel overlap", ""):
        table.add_column(column, justify="right")
    half = len(differences) // 2
    for a, b in zip(differences[:half], differences[half:], strict=True):
        channels = ("-", "-") if a.place == "input" else (f"{a.rank_correlation:.6f}", f"{a.overlap:.0%}")
        verdict = "ok" if a.ok and b.ok else "[red]DIFFERS[/red]"
        table.add_row(a.place, f"{a.relative:.1e}", f"{b.relative:.1e}", *channels, verdict)
    return table


def _study_table(said: "Studies") -> Table:
    table = Table(title="largest difference per study", title_justify="left")
    table.add_column("study")
    for column in ("float32 relative", "float64 relative", ""):
        table.add_column(column, justify="right")
    half = len(said.differences) // 2
    for a, b in zip(said.differences[:half], said.differences[half:], strict=True):
        verdict = "ok" if a.ok and b.ok else "[red]DIFFERS[/red]"
        table.add_row(a.place, f"{a.relative:.1e}", f"{b.relative:.1e}", verdict)
    return table


def _shown_table(said: "Studies") -> Table:
    table = Table(title="what the studies say", title_justify="left")
    for column in ("study", ""):
        table.add_column(column)
    for column in ("torch float32", "jax float32", "torch float64", "jax float64"):
        table.add_column(column, justify="right")
    for row in said.shown:
        figures = (format(value, spec) for value, spec in zip(row.values, (".6f", ".6f", ".12f", ".12f"), strict=True))
        table.add_row(row.study, escape(row.what), *figures)
    return table


def _write_json(
    place: Place,
    checkpoint: Path,
    result: "Verification",
    explained: "tuple[LrpDifference, ...]",
    said: "Studies | None",
    names: list[str],
) -> None:
    studies = said.differences if said else ()
    payload = {
        "checkpoint": str(checkpoint),
        "equal": result.ok and all(d.ok for d in (*explained, *studies)),
        "differences": [{**vars(d), "ok": d.ok} for d in result.differences],
        "relevance": [{**vars(d), "ok": d.ok} for d in explained],
        "studies": [{**vars(d), "ok": d.ok} for d in studies],
        "shown": [row._asdict() for row in said.shown] if said else [],
        "images": names,
        "logits": {
            side: {dtype: values.tolist() for dtype, values in logits.items()}
            for side, logits in (("jax", result.ours), ("torch", result.theirs))
        },
    }
    with new_file(place) as temporary:
        temporary.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
