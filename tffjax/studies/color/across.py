"""The same ablation on several networks, from finished color runs: within one model against across models (supplement
G).

A network's decision on an image is what it says of the image before: of a detector that it is fake (images are fakes
with p >= 0.20 then, as in whisker plots), of a classifier its top class. The ablation lowers the probability of that.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.pipeline.output import output_folder
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.results.figures import save_figure
from tffjax.results.generators import by_generator, in_order
from tffjax.results.record import write_record
from tffjax.results.run_result import RunResult
from tffjax.results.tables import write_table
from tffjax.studies.call import PathLike
from tffjax.studies.color.figures import networks
from tffjax.studies.color.samples import place_of, read_samples
from tffjax.studies.color.tables import detected, whisker_table
from tffjax.studies.predictions import class_probability, fake_probability, kind_of
from tffjax.studies.selection import GRAYSCALE


class Decisions(NamedTuple):
    """What a network says of the same images before and after an ablation.

    Attributes:
        network: what it is, and where it comes from.
        generator: of each image.
        before, after: probability of what the network decides on the original image.
        kept: whether that is still its decision after the ablation; see `kept_before`.
        kept_before: images whose decision can be kept: a detector's p >= 0.5, all of a classifier.
    """

    network: str
    generator: np.ndarray
    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " n"]
    kept: Bool[np.ndarray, " n"]
    kept_before: Bool[np.ndarray, " n"]


def decisions(run: RunResult, ablation: str) -> Decisions:
    """The decisions of the network of a color run on its fakes, or on all images where it has no labels.

    Raises:
        InputError: not a finished color run, or one without that ablation; no image counts.
    """
    samples, _ = read_samples(run.folder)
    logits = samples.logits[[0, place_of(ablation, samples, run.folder)]]
    card = Card.from_json(json.dumps(run.record["identity"]["weights"]))
    if card.num_outputs == 1:
        before, after = fake_probability(logits[:, :, 0], card)
        counted, kept, kept_before = detected(samples.label, before), after >= 0.5, before >= 0.5
        what = "no fake image has p >= 0.20"
    else:
        top = logits.argmax(axis=2)
        before, after = class_probability(logits, top[0])
        counted, kept, kept_before = samples.asked, top[0] == top[1], np.ones(len(samples.label), bool)
        what = "there are no images"
    if not counted.any():
        raise InputError(f"{run.folder}: {what}")
    network = f"{kind_of(card)}: {card.source or card.architecture}"
    fields = (samples.generator, before, after, kept, kept_before)
    return Decisions(network, *(field[counted] for field in fields))


def network_table(found: Sequence[Decisions]) -> pa.Table:
    """A row for each network and generator, then all: medians before and after in percent, their drop, decisions kept.

    Columns: those of `tffjax.studies.color.tables.whisker_table` after `network`; `kept`, from 0 to 1, is the share of
    decisions that stay: of fakes with p >= 0.5 those that have it still, of a classifier's top classes those that are
    still its top class. Null where there is none to keep.
    """
    return pa.concat_tables(
        boxes.add_column(0, "network", [[one.network] * len(boxes)]) for one in found for boxes in _boxes(one)
    )


def _told_apart(found: Sequence[Decisions], paths: Sequence[Path]) -> list[Decisions]:
    """With the run behind the name of a network where several have it, such as one network on two sets of images."""
    names = [one.network for one in found]
    return [
        one if names.count(one.network) == 1 else one._replace(network=f"{one.network} ({path})")
        for one, path in zip(found, paths, strict=True)
    ]


def _boxes(one: Decisions) -> Iterator[pa.Table]:
    groups = by_generator(one.generator)
    for generator in in_order(groups):
        members = groups[generator]
        names = np.full(int(members.sum()), generator, dtype=object)
        table = whisker_table(names, one.before[members], one.after[members])
        decided = one.kept[members & one.kept_before]
        yield table.append_column("kept", pa.array([decided.mean() if len(decided) else None], pa.float64()))


def across(
    runs: Sequence[PathLike],
    out: PathLike,
    *,
    ablation: str = GRAYSCALE,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> RunResult:
    """Compare what the same ablation does to several networks, from finished color runs (supplement G).

    Args:
        runs: run directories of `tffjax.run_color` on networks of any kind, best on the same images.
        out: folder for the table (networks), the figure (networks, PNG and PDF), and run.json.
        ablation: which, as in the runs.
        overwrite: replace what tffjax wrote at `out` before.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The folder; its `table("networks")` is `network_table`.

    Raises:
        InputError: as `decisions`; fewer than two runs, or one twice; `out` is not free.
    """
    paths, reporter = [Path(run) for run in runs], reporter or Lines()
    if len(set(paths)) < max(len(paths), 2):
        raise InputError("give two color runs or more, of a detector and of an ImageNet network, say; each once")
    found = _told_apart([decisions(RunResult(path), ablation) for path in paths], paths)
    images = [RunResult(path).record["identity"]["images"] for path in paths]
    if any(one != images[0] for one in images):
        reporter.warn("the runs are of different images: read their rows side by side with care")
    table = network_table(found)
    identity: dict[str, Any] = {
        "arguments": {"ablation": ablation},
        "weights": [RunResult(path).record["identity"]["weights"]["weights_sha256"] for path in paths],
        "images": images,
    }
    with output_folder(Path(out), overwrite) as folder:
        write_table(table, folder / "networks")
        save_figure(networks(table, ("baseline", ablation)), folder / "networks")
        record = run_record("across", identity, computes=False, runs=paths)
        write_record(folder, record | {"results": {"runs": len(found)}})
    shown = {"network": "", "generator": "", "num": "d", "median_before": ".1f", "median_after": ".1f", "drop": ".1f"}
    reporter.table(table, f"{ablation}: probability of each network's decision [%]", {**shown, "kept": ".1%"})
    reporter.say(f"{len(found)} runs compared; table and figure in {out}")
    return RunResult(Path(out))
