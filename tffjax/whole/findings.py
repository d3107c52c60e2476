"""Findings of the whole study, in words that follow from the numbers.

A setting has **damage** on a generator: the share of its way from the baseline to chance that AP, or the accuracy on
fakes at the baseline's calibrated threshold, falls; of the two the larger share. Chance is the share of fakes for AP
and 1/2 for the accuracy. A figure whose baseline is less than `DETECTED` above chance does not count, and where neither
does nothing can be said. With t the damage of the top k channels and r that of k random ones (of their mean figures
over the draws):

    yes      t >= BROKEN and r <= SPARED
    partly   otherwise, if t - r >= MORE
    no       otherwise
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tffjax.errors import InputError
from tffjax.results.generators import ALL, names_of
from tffjax.studies.color.statistics import ALPHA
from tffjax.studies.dropout.settings import BASELINE, family

BROKEN, SPARED, MORE, DETECTED = 0.5, 0.25, 0.25, 0.2
UNSAID = "cannot be said"

RULES = f"""\
Broken: AP, or the accuracy on fakes at the baseline's calibrated threshold, falls by at least {BROKEN:.0%} of its way \
from the baseline to chance. Spared: neither falls by more than {SPARED:.0%}. Yes: the top channels break what random \
ones spare. Partly: that fails, but the top channels take at least {MORE:.0%} of the way more than random ones. No: \
otherwise. Figures whose baseline is less than {DETECTED:.0%} above chance do not count."""


class Finding(NamedTuple):
    """A question, the answer in a word or two, and the numbers behind it."""

    question: str
    verdict: str
    text: str


class Figures(NamedTuple):
    """Accuracy on fakes at the baseline's calibrated threshold, and AP."""

    fake: float
    ap: float


class Effect(NamedTuple):
    """What switching channels off does on one generator: the baseline, the top k, each draw of k random channels."""

    generator: str
    chance_ap: float
    baseline: Figures
    top: Figures
    random: tuple[Figures, ...]

    @property
    def random_mean(self) -> Figures:
        """Mean over the draws."""
        return mean(self.random)


def mean(figures: Sequence[Figures]) -> Figures:
    """Mean of each figure."""
    return Figures(*np.mean(figures, axis=0).tolist())


def effects(draws: pa.Table, k: int) -> dict[str, Effect]:
    """The effect for every generator, from the draws.csv of `tffjax dropout` (every draw scored by itself).

    Raises:
        InputError: the table lacks the baseline, the top k or random draws of a generator.
    """
    rows = {(row["generator"], row["setting"]): row for row in draws.to_pylist()}
    found = {}
    for generator in names_of(np.array(draws["generator"].to_pylist(), dtype=object)):
        own = {setting: row for (name, setting), row in rows.items() if name == generator}
        figures = {setting: Figures(row["fake_calibrated"], row["ap"]) for setting, row in own.items()}
        random = tuple(value for setting, value in figures.items() if family(setting) == f"random-{k}")
        if not random or not {BASELINE.name, f"top-{k}"} <= figures.keys():
            raise InputError(f"{generator} lacks the baseline, top-{k} or random-{k}; run tffjax dropout again")
        base = own[BASELINE.name]
        chance = base["num_fake"] / (base["num_fake"] + base["num_real"])
        found[generator] = Effect(generator, chance, figures[BASELINE.name], figures[f"top-{k}"], random)
    return {generator: effect for generator, effect in found.items() if generator != ALL or len(found) == 1}


def damage(effect: Effect, figures: Figures) -> float:
    """The damage of a setting, see the head of this module; NaN where nothing can be said, negative where it helps."""
    return max(_lost(effect, figures).values(), default=np.nan)


def verdict(effect: Effect) -> str:
    """`yes`, `partly`, `no` or `cannot be said`: do the top channels break what random ones spare?"""
    top, random = damage(effect, effect.top), damage(effect, effect.random_mean)
    if np.isnan(top) or np.isnan(random):
        return UNSAID
    if top >= BROKEN and random <= SPARED:
        return "yes"
    return "partly" if top - random >= MORE else "no"


def dropout_finding(effect: Effect, k: int) -> Finding:
    """Does top-k break detection on the generator of the training, while random-k does not?"""
    question = f"Does switching off {_top(k)} break detection, while {_random(k)} {'does' if k == 1 else 'do'} not?"
    return Finding(question, verdict(effect), f"On {effect.generator}, seen in training: {_numbers(effect, k)}")


def transfer_finding(unseen: Sequence[Effect], k: int) -> Finding:
    """Is it the same on generators that the detector has never seen?

    `yes` or `no` if all those on which something can be said agree, else `partly`.
    """
    question = "Does that transfer to generators that the detector has never seen?"
    verdicts = [verdict(effect) for effect in unseen]
    said = set(verdicts) - {UNSAID}
    overall = UNSAID if not said else said.pop() if len(said) == 1 else "partly"
    lines = [
        f"On {effect.generator}: {word}. {_numbers(effect, k)}"
        for effect, word in zip(unseen, verdicts, strict=True)
    ]  # fmt: skip
    if len(unseen) > 1:
        figures = [(effect.baseline, effect.top, effect.random_mean) for effect in unseen]
        lines.append(f"Their mean: {_three(*map(mean, zip(*figures, strict=True)), k)}.")
    return Finding(question, overall, "\n".join(lines) or "There are no images of unseen generators.")


def everywhere_finding(found: Sequence[Effect], k: int) -> Finding:
    """Does top-k break detection, while random-k does not, on all generators? As `transfer_finding` counts it."""
    question = f"Does switching off {_top(k)} break detection, while {_random(k)} {'does' if k == 1 else 'do'} not?"
    return transfer_finding(found, k)._replace(question=question)


def color_finding(tests: pa.Table, seen: str | None) -> Finding:
    """How many channels are color-conditional, from the tests.csv of `tffjax color` with the one ablation grayscale.

    Counted are those whose p, adjusted by Benjamini-Hochberg, is at most `ALPHA` on the fakes of the generator of the
    training or, where that is not known, of each one, from the fewest to the most; `most` are at least half of the
    channels. The paper takes the raw p, whose count is said beside it.

    Raises:
        InputError: nothing was tested on that generator.
    """
    rows = tests.to_pylist()
    counts, first = {}, seen if seen is not None else next((row["generator"] for row in rows), "")
    for generator in [first, *(name for name in dict.fromkeys(row["generator"] for row in rows) if name != first)]:
        own = [row for row in rows if row["generator"] == generator]
        if not own:
            raise InputError(f"no channel was tested on fakes of {first}; run tffjax color again")
        adjusted, raw = (sum(row[column] <= ALPHA for row in own) for column in ("p_adjusted", "p"))
        counts[generator] = (adjusted, raw, len(own), own[0]["num"])
    tested = counts[first][2]
    numbers = [counts[first][0]] if seen is not None else [adjusted for adjusted, *_ in counts.values()]
    low, high = min(numbers), max(numbers)
    word = "none" if not high else "most" if low >= tested / 2 else "some"
    number = str(low) if low == high else f"{low} to {high}"
    lines = [
        f"On {name}{', seen in training' if name == seen else ''} ({images} fakes and their grayscale versions): "
        f"{adjusted} of {total} with adjusted p <= {ALPHA}, {raw} with the raw p that the paper takes."
        for name, (adjusted, raw, total, images) in counts.items()
    ]
    question = f"How many of the top {tested} channels are color-conditional (Mood's median test)?"
    return Finding(question, f"{word}, {number} of {tested}", "\n".join(lines))


def findings(draws: pa.Table, tests: pa.Table, k: int, seen: str | None) -> tuple[Finding, ...]:
    """The findings: whether the top channels matter, whether that transfers to unseen generators, and color.

    Args:
        draws: draws.csv of `tffjax dropout --k K` over all generators.
        tests: tests.csv of `tffjax color` over the same images.
        k: how many channels were switched off.
        seen: the generator of the training; None if it is not known: then nothing is said of transfer.

    Raises:
        InputError: a table lacks something that is needed.
    """
    found = effects(draws, k)
    if seen is None:
        return everywhere_finding(tuple(found.values()), k), color_finding(tests, None)
    if seen not in found:
        raise InputError(f"no images of {seen} were scored; run tffjax dropout again")
    unseen = [effect for generator, effect in found.items() if generator != seen]
    return dropout_finding(found[seen], k), transfer_finding(unseen, k), color_finding(tests, seen)


def markdown(found: Sequence[Finding], about: str) -> str:
    """The findings as a Markdown page; `about` says how they were made."""
    sections = [
        f"## {number}. {finding.question}\n\n**{finding.verdict.capitalize()}.**\n\n"
        + "\n".join(f"- {line}" for line in finding.text.splitlines())
        for number, finding in enumerate(found, start=1)
    ]
    return "\n\n".join(["# Findings", *sections, "## How to read this", about, RULES]) + "\n"


def _lost(effect: Effect, figures: Figures) -> dict[str, float]:
    """Share of the way from the baseline to chance that each figure falls, by its name, of those that count."""
    names = {"accuracy on fakes": 0.5, "AP": effect.chance_ap}
    return {
        name: (before - after) / (before - chance)
        for (name, chance), before, after in zip(names.items(), effect.baseline, figures, strict=True)
        if before - chance >= DETECTED
    }


def _numbers(effect: Effect, k: int) -> str:
    fake, ap = ([getattr(draw, name) for draw in effect.random] for name in Figures._fields)
    range_ = f"; in {len(fake)} draws {_range(fake)} ({_range(ap)})" if len(fake) > 1 else ""
    top, random = (_worst(effect, figures) for figures in (effect.top, effect.random_mean))
    way = f" Of the way to chance {top} against {random}." if top else ""
    return f"{_three(effect.baseline, effect.top, effect.random_mean, k)}{range_}.{way}"


def _worst(effect: Effect, figures: Figures) -> str:
    lost = _lost(effect, figures)
    name = max(lost, key=lost.__getitem__, default="")
    return f"{max(lost[name], 0):.0%} ({name})" if name else ""


def _three(baseline: Figures, top: Figures, random: Figures, k: int) -> str:
    return (
        f"{baseline.fake:.1%} of the fakes found (AP {baseline.ap:.1%}), {top.fake:.1%} ({top.ap:.1%}) without "
        f"{_top(k)}, {random.fake:.1%} ({random.ap:.1%}) without {_random(k)}"
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1%} to {max(values):.1%}"


def _channels(k: int) -> str:
    return "channel" if k == 1 else f"{k} channels"


def _top(k: int) -> str:
    return f"the top {_channels(k)}"


def _random(k: int) -> str:
    return "a random one" if k == 1 else f"{k} random ones"
