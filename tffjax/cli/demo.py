"""`tffjax demo`: the whole study on the detector and the images that come with tffjax."""

import json
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.text import Text

from tffjax import __version__, embedded
from tffjax.cli.color import color
from tffjax.cli.console import Talk, check_output, overwrite_option, quiet_option
from tffjax.cli.dropout import dropout
from tffjax.cli.find_k import find_k_command
from tffjax.cli.heatmap import heatmap
from tffjax.cli.lrpmax import lrpmax
from tffjax.cli.predict import predict
from tffjax.cli.rank import rank
from tffjax.cli.report import report
from tffjax.data import find_images
from tffjax.demo.findings import RULES, Finding, findings, markdown
from tffjax.embedded import Embedded
from tffjax.errors import InputError
from tffjax.files import replace_file
from tffjax.nn import checkpoint, network_of
from tffjax.pipeline import directory as runs
from tffjax.report import read_sources

COMMANDS = {
    "predict": predict,
    "rank": rank,
    "find-k": find_k_command,
    "dropout": dropout,
    "lrpmax": lrpmax,
    "color": color,
    "heatmap": heatmap,
    "report": report,
}
QUESTIONS = {
    "predict": "how well does the detector do, on generators that it has seen and not seen?",
    "rank": "which channels carry the relevance of its decisions?",
    "find-k": "how many of the top ones must be switched off until detection breaks?",
    "dropout": "do random channels do the same? do unseen generators behave alike?",
    "lrpmax": "what do the top channels look at?",
    "color": "do the top channels respond to color?",
    "heatmap": "what do single decisions rest on?",
    "report": "all of it on one page",
}
STUDIES = ("predict", "rank", "find-k", "dropout", "lrpmax", "color")
"""Commands that write run directories, which can be resumed."""

RECORD = "demo.json"
CONFIDENCE = 0.9  # rank's default, the paper's
LARGEST_K = 1024
MULTIPLES = (1, 2, 4)  # of the k that was found: dropout gets a curve
COLOR_CHANNELS = network_of("efficientnet_b0").paper_k
SHOWN_CHANNELS, SHOWN_IMAGES = 8, 4  # of LRP-max, whose every site is compiled


class Step(NamedTuple):
    """One command: its name, what it gets beside --out, and where its results go."""

    command: str
    arguments: tuple[str, ...]
    out: Path

    @property
    def done(self) -> bool:
        """Whether the results are there."""
        if self.command in STUDIES:
            return (self.out / runs.RECORD).is_file() and "results" in runs.read_record(self.out)
        return self.out.exists()  # the other commands rename their results into place

    def line(self, anew: bool = False) -> tuple[str, ...]:
        """What to type after `tffjax`: the command from its beginning, or going on with its interrupted run."""
        if not anew and self.command in STUDIES and (self.out / runs.RECORD).is_file():
            return self.command, "--resume", str(self.out)
        return self.command, *self.arguments, "--out", str(self.out)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("tffjax-demo"),
    show_default=True,
    help="Folder for the results; called again with the same one, the demo goes on where it was.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands, then stop.")
@overwrite_option
@quiet_option
def demo(out: Path, dry_run: bool, overwrite: bool, quiet: bool) -> None:
    """See the whole study: on a small detector and its images, both part of tffjax, in some minutes and offline.

    The detector was trained on the fakes of one generator; the images are of that one and of three that it has never
    seen. Channels are ranked on the generator of the training, then switched off on all. Every command is printed
    before it runs, so that you can repeat it, with other options or on images of your own.

    Writes a folder for each command, report.html with all of them, and findings.md: the three findings in words with
    their numbers. Interrupted at any moment, the demo goes on when it is called again.

    \b
    Example:
      tffjax demo
      tffjax demo --out demo --overwrite
    """
    began = time.monotonic()
    talk, study = Talk(quiet), embedded.EMBEDDED
    if not study.detector.is_dir() or not study.images.is_dir():
        raise InputError("this installation of tffjax lacks its detector and images; install it anew")
    record = {"tffjax": __version__, "detector": checkpoint.read_card(study.detector).weights_sha256}
    _check(out, record, overwrite)
    if dry_run:
        for step in steps(study, out, None if overwrite else found_k(out)):
            talk.say(_done(step) if step.done and not overwrite else _typed(step.line(overwrite)))
        return
    try:
        _begin(out, record, overwrite)
        found = _run_all(talk, study, out, began)
    except (click.Abort, KeyboardInterrupt):
        raise _interrupted(out) from None
    except InputError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # the study says how it alone is resumed
            raise _interrupted(out) from None
        raise
    _say(talk, found)
    talk.say(f"\nreport: {out / 'report.html'} (open it in a browser); findings: {out / 'findings.md'}; "
             f"took {_clock(began)}")  # fmt: skip


def steps(study: Embedded, out: Path, k: int | None) -> list[Step]:
    """The commands of the demo in their order; while `find-k` is not done, they have `K` for the k that it will find.

    Images keep their size, and all passes have one batch size: whatever can shares a compiled program. Channels are
    ranked, and k is found, on the generator of the training alone.
    """
    detector, images, seen = str(study.detector), str(study.images), str(study.images / study.seen)
    given = (detector, images, "--ranking", str(out / "rank" / "ranking_fake.csv"))
    top = ("--k", "K" if k is None else ",".join(str(n * k) for n in MULTIPLES))
    ranked = ("--own-size", "--confidence", str(CONFIDENCE), "--bootstrap", "50")
    searched = ("--max-k", str(LARGEST_K), "--random", "1", "--chunk", "1")
    arguments = {
        "predict": (detector, images),
        "rank": (detector, seen, *ranked),
        "find-k": (detector, seen, *given[2:], "--metric", "fake", *searched),
        "dropout": (*given, *top, "--random", "5", "--low", "--chunk", "1"),
        "lrpmax": (*given, "--k", str(SHOWN_CHANNELS), "--top", str(SHOWN_IMAGES)),
        "color": (*given, "--k", str(COLOR_CHANNELS)),
        "heatmap": (detector, *map(str, _examples(study)), "--method", "lrp"),
    }
    made = [Step(command, arguments[command], out / command) for command in arguments]
    # predict's results are in those of dropout, which a report shows
    shown = [str(step.out) for step in made if step.command != "predict"]
    notes = ("--notes", str(out / "findings.md"))
    return [*made, Step("report", (*shown, *notes, "--overwrite"), out / "report.html")]


def found_k(out: Path) -> int | None:
    """How many channels are switched off: what `find-k` found or, if no k breaks detection, the paper's number.

    None if `find-k` is not done.
    """
    if not Step("find-k", (), out / "find-k").done:
        return None
    record = runs.read_record(out / "find-k")
    return record["results"]["k"] or network_of(record["identity"]["weights"]["architecture"]).paper_k


def write_findings(study: Embedded, out: Path) -> tuple[Finding, ...]:
    """The findings of the finished runs, which also go to findings.md.

    Raises:
        InputError: a run is missing, unfinished or damaged.
    """
    searched, switched, colored = read_sources([out / name for name in ("find-k", "dropout", "color")])
    k = switched.arguments["ks"][0]
    found = findings(switched.table("draws.csv"), colored.table("tests.csv"), k, study.seen)
    how = (
        f"k = {k} is the smallest for which {searched.results['criterion']}. It was found on the images of "
        f"{study.seen} that are scored here, so that the top channels do damage there follows from this choice; "
        "the questions are whether random ones do too, and whether it transfers."
        if searched.results["k"]
        else f"No k up to {LARGEST_K} does enough damage on {study.seen}, so k = {k} is the paper's."
    )
    few = "There are few images of each kind: one found more or less moves an accuracy by some percentage points."
    about = f"{how} Channels were ranked on {study.seen}. {few}"
    with replace_file(out / "findings.md") as temporary:
        temporary.write_text(markdown(found, about), encoding="utf-8")
    return found


def _examples(study: Embedded) -> list[Path]:
    """The first real image of the seen generator and the first fake of each, the seen one first."""
    names = sorted(path.name for path in study.images.iterdir() if path.is_dir())
    names.sort(key=lambda name: name != study.seen)
    folders = [study.images / study.seen / "0_real", *(study.images / name / "1_fake" for name in names)]
    return [find_images([folder])[0].path for folder in folders]


def _check(out: Path, record: dict[str, Any], overwrite: bool) -> None:
    """Raise an InputError unless a demo may be started, or gone on with, at `out`."""
    path = out / RECORD
    if overwrite or not path.is_file():
        check_output(out, overwrite)
    elif path.read_text(encoding="utf-8") != _json(record):
        raise InputError(
            f"{out} holds the demo of another version of tffjax; choose another folder or start anew with --overwrite"
        )


def _begin(out: Path, record: dict[str, Any], overwrite: bool) -> None:
    """Make the folder, or find it; `overwrite` empties it."""
    out.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (out / RECORD).unlink(missing_ok=True)  # first: what is left of a half-emptied folder is not gone on with
    for old in out.iterdir() if overwrite else ():
        if old.name != runs.MARKER:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    with replace_file(out / RECORD) as temporary:
        temporary.write_text(_json(record), encoding="utf-8")
    (out / runs.MARKER).touch()  # last: until then --overwrite does not touch the folder


def _run_all(talk: Talk, study: Embedded, out: Path, began: float) -> tuple[Finding, ...]:
    count = len(COMMANDS)
    found: tuple[Finding, ...] = ()
    for number in range(count):
        step = steps(study, out, found_k(out))[number]
        if step.command == "report":
            found = write_findings(study, out)
        if step.done:
            talk.say(f"step {number + 1} of {count}: {_done(step)}")
            continue
        (out / "report.html").unlink(missing_ok=True)  # it is of other results
        heading = f"\nstep {number + 1} of {count} ({_clock(began)}): {QUESTIONS[step.command]}"
        talk.say(Text(f"{heading}\n{_typed(step.line())}", style="bold"))
        _call(*step.line(), *(["--quiet"] if talk.results.quiet else []))
    return found


def _call(command: str, *arguments: str) -> None:
    COMMANDS[command].main(args=list(arguments), prog_name=f"tffjax {command}", standalone_mode=False)


def _say(talk: Talk, found: Sequence[Finding]) -> None:
    for number, finding in enumerate(found, start=1):
        talk.say(Text(f"\n{number}. {finding.question} {finding.verdict.capitalize()}.", style="bold"))
        for line in finding.text.splitlines():
            talk.say(f"   {line}")
    talk.say(f"\n{RULES}")


def _done(step: Step) -> str:
    return f"{step.command} is done already, in {step.out}"


def _typed(line: Sequence[str]) -> str:
    return "$ " + shlex.join(["tffjax", *line])


def _interrupted(out: Path) -> InputError:
    anew = [] if (out / RECORD).is_file() else ["--overwrite"]  # it was interrupted while the folder was emptied
    return InputError(f"interrupted; go on with: {shlex.join(['tffjax', 'demo', '--out', str(out), *anew])}")


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def _clock(began: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    return f"{minutes}:{seconds:02d}"
