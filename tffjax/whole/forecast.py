"""How long the steps of a whole study will take, before the first one begins.

What a step needs of an earlier one is stood in for: where there is no ranking yet, by one in random order, and where
there is no k, by the paper's. Neither changes much of what a step costs.
"""

import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tffjax.nn import checkpoint, network_of
from tffjax.pipeline.forecast import Forecast, duration, probe, size
from tffjax.pipeline.images import Images, images_for
from tffjax.pipeline.reporter import Reporter, Silent
from tffjax.pipeline.request import Request
from tffjax.pipeline.study import Study
from tffjax.studies import STUDIES
from tffjax.studies.rankings import Ranking, all_channels
from tffjax.whole.steps import MULTIPLES, Step, Whole, found_k, steps


@dataclasses.dataclass(frozen=True)
class StepForecast:
    """Of one step.

    Attributes:
        name: of its folder, which is its command in a whole study.
        passes: of its first pass over the images; None where they are too few to be timed.
        note: what it says nothing about.
    """

    name: str
    passes: Forecast | None
    note: str

    def __str__(self) -> str:
        if self.passes is None:
            said = "too few images to be timed"
        else:
            said = f"{self.passes}; and {self.passes.compiling:.0f} s to compile"
        return f"{self.name}: {said}{self.note and f' ({self.note})'}"


def forecasts(
    whole: Whole,
    out: Path,
    chosen: Sequence[str],
    reporter: Reporter,
    least: int = 1,
    anew: bool = False,
    more: Sequence[Step] = (),
) -> Iterator[StepForecast]:
    """The forecasts of the chosen steps, and of more, of at least so many batches that are not done, or are to be done
    anew; nothing is written.

    The heatmaps and the report, of a few images, have none.

    Raises:
        InputError: as the steps.
    """
    known = whole.k or (None if anew else found_k(out))
    made = [
        step
        for step in steps(whole, out, known or _any_k(whole.detector))
        if step.command in chosen and not whole.leaves_out(step.command)
    ]
    for step in (*made, *more):
        if step.command not in STUDIES or (step.done and not anew):
            continue
        changes = {}
        if step.options.get("ranking") is not None and not step.options["ranking"].exists():
            changes["ranking"] = _any_ranking(step)
        study = step.study(**changes)
        images = images_for(study, Request(step.data, step.out, step.reading, step.detector), Silent())
        if len(images.plan.batches) < least:
            continue
        with reporter.busy(f"timing {step.out.name}"):
            yield _forecast(step, study, images, known)


def _forecast(step: Step, study: Study, images: Images, known: int | None) -> StepForecast:
    passes = probe(study, images, Silent())
    note = ""
    if step.command == "find-k":
        note = f"its first pass; the search takes up to {study.most_passes()}, of which the first is the longest"
    elif step.command == "generator":
        note = "its first pass; the second one makes and scores the images again for every set of masked channels"
    elif step.command == "lrpmax":
        note = "its first pass; the second one explains what that finds"
    elif step.command == "dropout" and known is None:
        note = f"for k = {step.options['ks'][0]}, which find-k may find otherwise"
    return StepForecast(step.out.name, passes, note)


def _any_k(detector: Path) -> int:
    """The paper's number of channels, but that there must be as many again of the largest multiple."""
    model = checkpoint.load(detector)
    most = len(all_channels(model)) // (2 * max(MULTIPLES))
    return max(min(network_of(model.card).paper_k or most, most), 1)


def _any_ranking(step: Step) -> Ranking:
    channels = list(all_channels(checkpoint.load(step.detector)))
    random.Random(0).shuffle(channels)
    return Ranking(tuple(channels), np.linspace(1, 0, len(channels)))


def total(found: Sequence[StepForecast]) -> str:
    """All of them together, in a line."""
    timed = [one.passes for one in found if one.passes]
    seconds = sum(one.seconds + one.compiling for one in timed)
    return f"together: {duration(seconds)}, {size(sum(one.bytes for one in timed))} to be kept, and what is not timed"
