"""What parts of the supplement are drawn from, and what they are."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from tffjax.files import replace_file
from tffjax.nn.card import Card
from tffjax.results.run_result import RunResult
from tffjax.supplement.steps import RUNS, Supplement
from tffjax.whole.findings import Finding

DPI = 200
"""Pixels an inch at least."""


class Scene(NamedTuple):
    """What parts are drawn from.

    Attributes:
        supplement: what is drawn.
        out: where to.
        card: of the detector.
        detector: its name in the paper; None if it is none of its detectors.
        dropout, color, generator: findings of the study on these.
    """

    supplement: Supplement
    out: Path
    card: Card
    detector: str | None
    dropout: tuple[Finding, ...]
    color: tuple[Finding, ...]
    generator: tuple[Finding, ...]

    def run(self, name: str) -> RunResult:
        """A run directory, which may not be there."""
        return RunResult(self.out / RUNS / name)

    def copy(self, source: Path, name: str, endings: Sequence[str]) -> tuple[str, ...]:
        """Copy a figure or table of a run, given without its ending; returns the names of the files."""
        for ending in endings:
            with replace_file(self.out / f"{name}.{ending}") as temporary:
                shutil.copyfile(source.with_name(f"{source.name}.{ending}"), temporary)
        return tuple(f"{name}.{ending}" for ending in endings)


class Part(NamedTuple):
    """A figure or table.

    Attributes:
        title: its number in the supplement, and what it is.
        paper: what the paper reports.
        ours: what is seen here.
        pictures: names of PNG files, of which there are PDF files, too.
        table: HTML.
        files: names of tables for other programs.
        missing: why there is nothing; "" if there is.
    """

    title: str
    paper: str = ""
    ours: str = ""
    pictures: tuple[str, ...] = ()
    table: Markup = Markup("")
    files: tuple[str, ...] = ()
    missing: str = ""


def said(findings: Sequence[Finding]) -> str:
    """Findings as lines."""
    return "\n".join(f"{one.question} {one.verdict.capitalize()}.\n{one.text}" for one in findings)
