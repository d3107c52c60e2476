"""`tffjax find-k`: how many channels must be switched off until detection breaks?"""

from typing import Any

import click
import pyarrow as pa

from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import Talk
from tffjax.cli.dropout import chunk_option, ranking_of, ranking_option, seed_option
from tffjax.cli.memory import halving
from tffjax.cli.rounds import Rounds
from tffjax.cli.study import Job, opened, prepare, write_skipped
from tffjax.distributed import wait_for_all
from tffjax.dropout_figures import dropout_curves
from tffjax.dropout_search import Found, find_k
from tffjax.dropout_tables import dropout_table, probability_table
from tffjax.errors import InputError
from tffjax.figures import save_figure
from tffjax.masks import BASELINE, random_k, top_k
from tffjax.rankings import Ranking
from tffjax.runs import Run
from tffjax.tables import screen_table, write_table


@click.command("find-k")
@input_options
@ranking_option
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Of its way from the baseline to chance that the metric must fall, on every generator.",
)
@click.option(
    "--metric",
    type=click.Choice(["either", "ap", "fake"]),
    default="either",
    show_default=True,
    help="What must fall: AP, the accuracy on fakes at the baseline's calibrated threshold, or either of them.",
)
@click.option("--max-k", type=click.IntRange(min=2), help="Search up to here. [default: half of the channels]")
@click.option("--random", "draws", type=click.IntRange(min=0), default=3, show_default=True, help="Draws of random-k.")
@seed_option
@chunk_option
@study_options
@click.pass_context
@halving
def find_k_command(context: click.Context, **given: Any) -> None:
    """Find the smallest k such that switching off the top k channels makes detection drop substantially.

    Tries k = 1, 2, 4, ... and then halves the interval in which the drop begins. A drop is substantial if on every
    generator AP, or the accuracy on fake images at the baseline's calibrated threshold (--metric says which), falls by
    --share of its way to chance. Says so when as many random channels make such a drop too.

    Writes find-k.csv (all that was evaluated), find-k.png and .pdf, and run.json with the provenance and the k.

    \b
    Example:
      tffjax find-k detector images/ --ranking run/ranking_fake.csv --out k
    """
    asked = ask(context, given)
    talk = Talk(given["quiet"] or asked.process.index > 0)
    job = prepare(asked, talk)
    if job.model.card.num_outputs != 1:
        raise InputError(f"find-k scores detectors with one output; this network has {job.model.card.num_outputs}")
    ranking = ranking_of(job)
    last = min(asked.arguments["max_k"] or len(ranking.channels) // 2, len(ranking.channels) // 2)
    if not {0, 1} <= {file.label for file in job.files}:
        raise InputError("find-k needs real and fake images, in folders 0_real and 1_fake")
    if asked.dry_run:
        talk.say(f"would search k up to {last} on {job.total} images, into {asked.run}")
        return
    with opened(job) as run:
        if run.done:
            talk.say(f"{asked.run} is done already: k = {run.record['results']['k'] or 'none found'}")
            return
        rounds = Rounds(job, run, asked.arguments["chunk"])
        found = find_k(
            lambda ks: _evaluate(job, rounds, ranking, ks),
            2 * last,
            asked.arguments["share"],
            asked.arguments["metric"],
        )
        if asked.process.index == 0:
            _finish(job, run, rounds, found)
        wait_for_all("results written", asked.process)


def _evaluate(job: Job, rounds: Rounds, ranking: Ranking, ks: Any) -> pa.Table:
    draws, seed = job.asked.arguments["draws"], job.asked.arguments["seed"]
    settings = [BASELINE]
    for k in ks:
        settings += [top_k(ranking, k), *random_k(ranking, k, draws, seed)]
    found = rounds(settings, f"k = {', '.join(map(str, ks))}")
    files = [job.files[index] for index in found.files]
    return dropout_table(probability_table(job.model.card, files, settings, found.logits))


def _finish(job: Job, run: Run, rounds: Rounds, found: Found) -> None:
    verdict = f"k = {found.k}" if found.k else found.warning
    results = {"k": found.k, "criterion": found.criterion, "warning": found.warning}
    with run.finish(results, job.asked.process.count) as folder:
        write_table(found.curve, folder / "find-k.csv")
        save_figure(dropout_curves(found.curve, found.curve, verdict), folder / "find-k")
        write_skipped(job, rounds.skipped, folder)
    percent = dict.fromkeys(["ap", "real_calibrated", "fake_calibrated"], ".1%")
    job.talk.say(screen_table(found.curve, "what was evaluated", {"setting": "", "generator": "", **percent}))
    if found.k and found.warning:
        job.talk.warn(found.warning)
    meaning = "the smallest for which" if found.k else "none for which"
    job.talk.say(f"{verdict}: {meaning} {found.criterion}; results in {run.path}")
