"""What `tffjax study` and `tffjax demo` do."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tffjax.errors import InputError
from tffjax.pipeline.reporter import Reporter
from tffjax.whole.run import (
    RECORD,
    begin,
    check_free,
    record_of,
    run_whole,
    say_findings,
    say_forecasts,
    write_findings,
)
from tffjax.whole.steps import Whole, found_k, steps


def do_whole(
    reporter: Reporter, whole: Whole, out: Path, chosen: Sequence[str], dry_run: bool, overwrite: bool, again: str
) -> None:
    """What the commands do: a whole study and its findings, or its commands and what they will take.

    Args:
        again: how an interrupted study is gone on with.

    Raises:
        InputError: as `run_whole`; interrupted.
    """
    check_free(record_of(whole), out, overwrite)
    if dry_run:
        for step in steps(whole, out, None if overwrite else found_k(out)):
            if step.command in chosen and not whole.leaves_out(step.command):
                done = step.done and not overwrite
                reporter.say(f"{step.command} is done already, in {step.out}" if done else step.line)
        say_forecasts(whole, out, reporter, chosen, anew=overwrite)
        return
    with going_on(again, out):
        begin(record_of(whole), out, overwrite)
        run_whole(whole, out, reporter, chosen)
    needed = [step for step in steps(whole, out, found_k(out)) if not whole.leaves_out(step.command)]
    if all(step.done for step in needed):
        say_findings(write_findings(whole, out), reporter)
        reporter.say(f"\nreport: {out / 'report.html'} (open it in a browser); findings: {out / 'findings.md'}")


@contextlib.contextmanager
def going_on(again: str, out: Path) -> Iterator[None]:
    """Say how what was interrupted is gone on with, instead of how a step of it alone is.

    Raises:
        InputError: it was interrupted; as what is done inside.
    """
    try:
        yield
    except (KeyboardInterrupt, InputError) as error:
        if isinstance(error, InputError) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        anew = "" if (out / RECORD).is_file() else " --overwrite"  # it was interrupted while the folder was emptied
        raise InputError(f"interrupted; go on with: {again}{anew}") from None
