"""`tffjax dropout`: switch channels off and see whether detection collapses."""

import hashlib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import Talk
from tffjax.cli.memory import halving
from tffjax.cli.rounds import Round, Rounds
from tffjax.cli.study import Job, opened, prepare, write_skipped
from tffjax.distributed import wait_for_all
from tffjax.dropout_figures import dropout_curves, effect_map
from tffjax.dropout_search import Step, greedy
from tffjax.dropout_tables import dropout_table, effect_correlation, effect_table, probability_table, with_published
from tffjax.errors import InputError
from tffjax.figures import save_figure
from tffjax.masks import BASELINE, Setting, check_settings, counted, low_k, random_k, read_setting, singles, top_k
from tffjax.nn import network_of
from tffjax.nn.sites import sites_of
from tffjax.rankings import Ranking, check_channels, read_ranking
from tffjax.runs import Run
from tffjax.tables import screen_table, write_table

SHOWN = 10


class Numbers(click.ParamType):
    """Whole numbers above 0 with commas between them."""

    name = "k,k,..."

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> list[int]:
        """The numbers."""
        if not isinstance(value, str):
            return value
        try:
            numbers = [int(part) for part in value.split(",")]
        except ValueError:
            numbers = [0]
        if min(numbers) < 1:
            self.fail(f"{value!r} is not a list of whole numbers above 0, such as 29,57,114", parameter, context)
        return numbers


ranking_option = click.option(
    "--ranking", type=click.Path(path_type=Path), help="Ranking, such as ranking_fake.csv of tffjax rank."
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Of the random channels.")
chunk_option = click.option(
    "--chunk", type=click.IntRange(min=1), help="Settings computed at a time. [default: what suits the memory]"
)


@click.command()
@input_options
@ranking_option
@click.option("--k", "ks", type=Numbers(), help="How many. [default: 29,57,114,228; EfficientNet-B0: 5,27,49]")
@click.option("--random", "draws", type=click.IntRange(min=0), default=5, show_default=True, help="Draws of random-k.")
@click.option("--low", is_flag=True, help="Also the last k channels of the ranking.")
@click.option(
    "--keys", type=click.Path(path_type=Path), help="Also the channels whose keys are in this file, together."
)
@click.option("--each", type=click.IntRange(min=1), metavar="N", help="Also each of the first N channels alone.")
@click.option(
    "--greedy", type=click.IntRange(min=1), metavar="STEPS", help="Choose STEPS of the --each channels greedily."
)
@seed_option
@chunk_option
@study_options
@click.pass_context
@halving
def dropout(context: click.Context, **given: Any) -> None:
    """Feature-map dropout: switch the top channels of a ranking off, before batch norm, and score the images again.

    WEIGHTS is a folder written by `tffjax convert`, DATA are folders of labeled images, used at their own size unless
    --resize or --crop are given. Scored are the baseline, the first k channels, and k random others (probabilities
    averaged over the draws); --low, --keys, --each and --greedy add more.

    Writes dropout.csv (as table E.1: AP, accuracy on real and fake images at 0.5 and at the baseline's calibrated
    threshold; published values beside ours), draws.csv, probabilities.csv and .parquet, dropout.png and .pdf; with
    --each effects.csv and a map of effect against omega; with --greedy greedy.csv; run.json with the provenance.

    \b
    Example:
      tffjax dropout detector images/ --ranking run/ranking_fake.csv --k 29,57,114,228 --random 5 --low --out dropout
      tffjax dropout detector images/ --ranking run/ranking_fake.csv --each 114 --out effects
    """
    asked = ask(context, given)
    talk = Talk(given["quiet"] or asked.process.index > 0)
    if asked.arguments["greedy"] and not asked.arguments["each"]:
        raise InputError("--greedy chooses among the channels of --each N; give it too")
    job = prepare(asked, talk)
    if job.model.card.num_outputs != 1:
        raise InputError(f"dropout scores detectors with one output; this network has {job.model.card.num_outputs}")
    ranking = ranking_of(job)
    settings, alone = _settings(job, ranking)
    if alone and not any(file.label == 1 for file in job.files):
        raise InputError("--each looks at fake images, in folders 1_fake, and there are none")
    if asked.dry_run:
        talk.say(f"would score {job.total} images under {len(settings) + len(alone)} settings, into {asked.run}")
        return
    with opened(job) as run:
        if run.done:
            talk.say(f"{asked.run} is done already")
            return
        rounds = Rounds(job, run, asked.arguments["chunk"])
        found = rounds([*settings, *alone], f"{len(settings) + len(alone)} settings")
        steps = _greedy(job, rounds, found, alone, asked.arguments["greedy"] or 0)
        if asked.process.index == 0:
            _finish(job, run, rounds, found, settings, alone, steps, ranking)
        wait_for_all("results written", asked.process)


def ranking_of(job: Job) -> Ranking:
    """The ranking that the options name; its content becomes part of the run's identity.

    Raises:
        InputError: no ranking, or one of another network.
    """
    path = job.asked.arguments["ranking"]
    if path is None:
        raise InputError("give --ranking RANK.csv, such as tffjax rank writes")
    ranking = read_ranking(Path(path))
    check_channels(ranking.channels, job.model)
    job.record["identity"]["ranking"] = digest(ranking)
    return ranking


def _settings(job: Job, ranking: Ranking) -> tuple[list[Setting], list[Setting]]:
    arguments = job.asked.arguments
    ks = arguments["ks"] or network_of(job.model.card).paper_ks
    if not ks:
        raise InputError(f"the paper has no numbers of channels for {job.model.card.architecture}; give --k")
    settings = [BASELINE]
    for k in ks:
        settings.append(top_k(ranking, k))
        settings += random_k(ranking, k, arguments["draws"], arguments["seed"])
        if arguments["low"]:
            settings.append(low_k(ranking, k))
    if arguments["keys"]:
        settings.append(read_setting(Path(arguments["keys"]), job.model))
        job.record["identity"]["keys"] = [channel.key for channel in settings[-1].channels]
    alone = singles(ranking.channels[: arguments["each"] or 0])
    check_settings([*settings, *alone])
    return settings, list(alone)


def _greedy(job: Job, rounds: Rounds, found: Round, alone: list[Setting], steps: int) -> tuple[Step, ...]:
    """Channels that together lower the mean logit of the fake images most, one after the other."""
    fake = np.array([job.files[index].label == 1 for index in found.files])
    if steps and not fake.any():
        raise InputError("--greedy looks at fake images, and there are none")
    sign = 1 if job.model.card.high_means == "fake" else -1

    def effect(sets: Any) -> np.ndarray:
        settings = [Setting(f"greedy/{i}", channels) for i, channels in enumerate(sets)]
        logits = rounds(settings, f"greedy step {len(sets[0])} of {steps}").logits[fake, :, 0]
        return sign * (found.logits[fake, 0].astype(np.float64) - logits).mean(axis=0)

    return greedy(effect, [setting.channels[0] for setting in alone], steps)


def _finish(
    job: Job,
    run: Run,
    rounds: Rounds,
    found: Round,
    settings: list[Setting],
    alone: list[Setting],
    steps: tuple[Step, ...],
    ranking: Ranking,
) -> None:
    files, card, count = [job.files[index] for index in found.files], job.model.card, len(settings)
    probabilities = probability_table(card, files, settings, found.logits[:, :count])
    names = pa.array([job.names[index] for index in found.files], pa.string())
    probabilities = probabilities.set_column(0, "path", names)
    labeled = any(file.label is not None for file in files)
    with run.finish({"images": len(files), "skipped": len(rounds.skipped)}, job.asked.process.count) as folder:
        for ending in ("csv", "parquet"):
            write_table(probabilities, folder / f"probabilities.{ending}")
        write_skipped(job, rounds.skipped, folder)
        if labeled:
            table, draws = dropout_table(probabilities), dropout_table(probabilities, average=False)
            table = with_published(table, card)
            write_table(table, folder / "dropout.csv")
            write_table(draws, folder / "draws.csv")
            if any(counted(setting.name) for setting in settings):
                title = f"{card.source or card.architecture}: channels switched off"
                save_figure(dropout_curves(table, draws, title), folder / "dropout")
            job.talk.say(_screen(table))
        if alone:
            _write_effects(job, found, files, alone, count, ranking, folder)
        if steps:
            rows = {"channels": range(1, len(steps) + 1), "key": [step.channel.key for step in steps]}
            write_table(pa.table({**rows, "effect": [step.effect for step in steps]}), folder / "greedy.csv")
    job.talk.say(f"{len(files)} images scored under {count + len(alone)} settings, {len(rounds.skipped)} skipped; "
                 f"results in {run.path}")  # fmt: skip


def _write_effects(
    job: Job, found: Round, files: list[Any], alone: list[Setting], count: int, ranking: Ranking, folder: Path
) -> None:
    labels = np.array([-1 if file.label is None else file.label for file in files])
    effects = effect_table(job.model.card, alone, found.logits[:, count:, 0], found.logits[:, 0, 0], labels, ranking)
    write_table(effects, folder / "effects.csv")
    sites = tuple(site.name for site in sites_of(job.model))
    fakes = int((labels == 1).sum())
    save_figure(effect_map(effects, sites, fakes, f"{len(alone)} channels, each alone"), folder / "effects")
    formats = {"key": "", "omega": ".4f", "effect": ".4f"}
    job.talk.say(screen_table(effects.slice(0, SHOWN), f"largest effects on the logit ({fakes} fake images)", formats))
    job.talk.say(f"Spearman's correlation of effect and omega: {effect_correlation(effects):.2f}")


def _screen(table: pa.Table) -> object:
    ours = dict.fromkeys(["ap", "real_calibrated", "fake_calibrated", "real", "fake"], ".1%")
    published = [
        name for name in table.column_names if name.startswith("published") and table[name].null_count < len(table)
    ]
    columns = {"setting": "", "generator": "", **ours, **dict.fromkeys(published, ".1%")}
    return screen_table(table, "detection with channels switched off", columns)


def digest(ranking: Ranking) -> str:
    """SHA-256 of the keys in their order."""
    return hashlib.sha256("\n".join(channel.key for channel in ranking.channels).encode()).hexdigest()
