"""All figures and tables of the supplement in one folder, on one page."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.nn import checkpoint
from tffjax.nn.generator import load_generator
from tffjax.pipeline import directory
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.studies.call import PathLike, paths_of
from tffjax.supplement.page import write_page
from tffjax.supplement.part import Part, Scene
from tffjax.supplement.parts import parts
from tffjax.supplement.start import check_data, check_weights, missing_generators, recognized
from tffjax.supplement.steps import EXTRA, RUNS, STUDIED, Supplement, extra_steps, supplement_of
from tffjax.whole.run import begin, check_free, record_of, run_whole, say_forecasts, write_findings
from tffjax.whole.steps import found_k, steps

_OURS = re.compile(r"(figure|table)-([A-Z]\d*|ranking)\.(png|pdf|csv|tex|html)")


def paper(
    model: PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    imagenet: PathLike | None = None,
    generator: PathLike | None = None,
    released: PathLike | None = None,
    published: str | None = None,
    seen: str | None = None,
    rank_on: PathLike | Sequence[PathLike] = (),
    resize: Resize | None = None,
    crop: int | None = None,
    labels: str | None = None,
    confidence: float = 0.9,
    k: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Every figure and table of the paper's supplement for a detector, beside what the paper reports.

    Runs are below `out`/runs; called again, also with inputs that were missing, the work goes on where it was, and
    figures are drawn anew.

    Args:
        model: the folder of a checkpoint of a detector with one output.
        data: folders of labeled images, such as the test set of ForenSynths.
        out: folder for figures (PNG, PDF), tables (CSV, LaTeX, HTML) and index.html.
        imagenet: the folder of a checkpoint with classes, for G and J.
        generator: the folder of a generator's checkpoint, for M.1.
        released: a clone of the paper's released code, whose ranking is compared with ours.
        published: name of the detector in the paper; None is what the card says.
        seen: the generator that the detector was trained on; None is ProGAN, if there are images of it.
        rank_on: images on which channels are ranked, such as `progan_val`; () is those of the seen generator.
        resize, crop, labels: as of `tffjax.rank`.
        confidence: of `tffjax.rank`.
        k: how many channels are the top ones; None is the paper's number, or what find-k finds.
        dry_run: only say what would be done, and what it will take.
        overwrite: start anew.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        index.html; with `dry_run` where it would be.

    Raises:
        InputError: there is no detector, or there are no images: it says what to fetch and how it is laid out; as the
            steps.
    """
    reporter, out = reporter or Lines(), Path(out)
    ranked_on = paths_of(rank_on) if isinstance(rank_on, str | os.PathLike) or rank_on else ()
    check_weights(Path(model))
    check_data([*paths_of(data), *ranked_on])
    supplement, files = supplement_of(
        Path(model),
        paths_of(data),
        imagenet=None if imagenet is None else Path(imagenet),
        released=None if released is None else Path(released),
        generator=None if generator is None else Path(generator),
        published=published,
        seen=seen,
        rank_on=ranked_on,
        size=(resize, crop),
        labels=labels,
        confidence=confidence,
        k=k,
    )
    card = checkpoint.read_card(Path(model))
    detector, how = recognized(card, published)
    reporter.say(f"detector: {how}")
    if detector and (missing := missing_generators(files)):
        reporter.warn(f"no images of {', '.join(missing)}: the paper's numbers of them stand beside nothing")
    text = record_of(dataclasses.replace(supplement.whole, generator=None))  # inputs may be added later
    _check_generator(supplement.whole.generator, out / RUNS / "generator")
    page = out / "index.html"
    if dry_run:
        check_free(text, out, overwrite)
        _say_plan(supplement, out, reporter, overwrite)
        return page
    begin(text, out, overwrite)
    _run(supplement, out, reporter)
    found = write_findings(supplement.whole, out / RUNS)
    made = len(found) - directory.is_done(out / RUNS / "generator")
    scene = Scene(supplement, out, card, detector, found[: made - 1], found[made - 1 : made], found[made:])
    with reporter.busy("drawing"):
        drawn = parts(scene)
        write_page(page, drawn, card, how)
        _delete_others(out, drawn)
    for part in drawn:
        names = ", ".join((*part.pictures, *part.files)) or f"left out: {part.missing}"
        reporter.say(f"{part.title}: {names}")
    reporter.say(f"\nall of it on one page: {page} (open it in a browser)")
    return page


def _check_generator(path: Path | None, run: Path) -> None:
    """Raise an InputError if the run that is there is of another generator."""
    if path is None or not (run / directory.RECORD).is_file():
        return
    theirs = directory.read_record(run)["identity"]["images"]["weights"]
    if theirs != load_generator(path).card.weights_sha256:
        raise InputError(f"{run} is of another generator; choose another folder, or delete that one")


def _run(supplement: Supplement, out: Path, reporter: Reporter) -> None:
    """Do the steps that are not done yet."""
    run_whole(supplement.whole, out / RUNS, reporter, STUDIED, extra_steps(supplement, out))
    for step in extra_steps(supplement, out):
        if step.done:
            reporter.say(f"{step.out.name} is done already, in {step.out}")
            continue
        reporter.say(f"\n{EXTRA[step.command]}\n{step.line}")
        step.run(reporter)


def _delete_others(out: Path, drawn: Sequence[Part]) -> None:
    """Delete figures and tables of an earlier call that are not drawn any more."""
    kept = {Path(name).stem for part in drawn for name in (*part.pictures, *part.files)}
    for path in out.iterdir():
        if _OURS.fullmatch(path.name) and path.stem not in kept:
            path.unlink()


def _say_plan(supplement: Supplement, out: Path, reporter: Reporter, anew: bool) -> None:
    """The commands, and what they will take."""
    whole, runs = supplement.whole, out / RUNS
    planned = [
        step
        for step in steps(whole, runs, None if anew else found_k(runs))
        if step.command in STUDIED and not whole.leaves_out(step.command)
    ]
    more = extra_steps(supplement, out)
    for step in (*planned, *more):
        done = step.done and not anew
        reporter.say(f"{step.out.name} is done already, in {step.out}" if done else step.line)
    say_forecasts(whole, runs, reporter, STUDIED, anew=anew, more=more)
