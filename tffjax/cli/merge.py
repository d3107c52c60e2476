"""`tffjax merge`: the shards of a study brought together."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, quiet_option, start_jax
from tffjax.errors import InputError
from tffjax.nn import checkpoint
from tffjax.pipeline.shards import merge, shards_of
from tffjax.studies import STUDIES
from tffjax.studies.call import options_of, study_class


@click.command("merge")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="The checkpoint, where it lies elsewhere now.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="The images, where they lie elsewhere.")
@quiet_option
def merge_command(out: Path, weights: Path | None, data: tuple[Path, ...], quiet: bool) -> None:
    """Bring the shards of a study together, below the folder OUT that was their --out.

    Refuses missing and unfinished shards, and those of other weights, options, images or versions. The results are the
    same bytes for any number of shards, in any order. A study of several passes (lrpmax, find-k, dropout --greedy) ends
    one pass and says that the shards are to be run again for the next.

    \b
    Example:
      for i in 0 1 2 3; do tffjax rank detector images/ --out run --shard $i/4; done
      tffjax merge run
    """
    start_jax()
    _, record = shards_of(out)
    if record["command"] not in STUDIES:
        raise InputError(f"{out}: the shards are of {record['command']}, which this tffjax does not know")
    study = study_class(record["command"])
    weights = weights or (Path(record["paths"]["weights"]) if record["paths"]["weights"] else None)
    if weights is None:
        raise InputError(f"{out}: the shards' model came from memory; say --weights CHECKPOINT")
    options = options_of(study, record["identity"]["arguments"])
    merge(study(checkpoint.load(weights), **options), out, Talk(quiet), data)
