"""What `tffjax convert --expect` does: find the network that gave the expected outputs, and say so."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from tffjax.conversion.expect import Tried, images_of, read_expected, search, size_text
from tffjax.conversion.variables import Facts

from tffjax.cli.console import Talk
from tffjax.errors import CheckFailed
from tffjax.nn import Model, module_of
from tffjax.nn.card import NORMALIZATIONS


def proven(talk: Talk, model: Model, facts: Facts, expect: Path, images: Path) -> Model:
    """The model with the graph and normalization that agree with the expected outputs.

    Raises:
        CheckFailed: none agrees.
    """
    card, (paths, values) = model.card, images_of(read_expected(expect), images)
    only = card.graph if card.graph_source == "chosen" else None
    with talk.busy("trying variants"):
        found = search(model.variables, facts, paths, values, card.fake_output, only)
    talk.say(_variants_table(found.best))
    best = found.agreed
    if best is None:
        raise CheckFailed(
            f"none of the variants agrees with {expect} on {len(paths)} images; the nearest is off by "
            f"{found.best[0].error:.2g}, see the table; nothing was written"
        )
    if best.transform.resize is not None or best.transform.crop is not None:
        talk.say(f"the original network saw images with {size_text(best.transform)}: give that to every command")
    proof = f"{expect.name}: {len(paths)} images, largest difference {best.error:.1e}, {size_text(best.transform)}"
    source = "proven"
    if found.equal:
        source = card.graph_source
        talk.warn(
            f"these images do not tell it from {found.equal[0].graph}"
            + (f" and {len(found.equal) - 1} more" if len(found.equal) > 1 else "")
            + "; add images of other sizes (sides that are no multiples of 32), or choose with --graph"
        )
    graph = best.graph if source == "proven" else card.graph
    card = dataclasses.replace(
        card, graph=graph, normalization=NORMALIZATIONS[best.normalization], graph_source=source, proof=proof
    )
    return Model(module_of(card), model.variables, card)


def _variants_table(tried: Sequence[Tried]) -> Table:
    table = Table(title="variants nearest to what was expected", title_justify="left")
    for column in ("graph", "normalization", "size", "read as"):
        table.add_column(column)
    table.add_column("largest difference", justify="right")
    table.add_column("")
    for one in tried:
        verdict = "agrees" if one.agrees else ""
        size = size_text(one.transform)
        table.add_row(str(one.graph), one.normalization, size, one.reading, f"{one.error:.2e}", verdict)
    return table
