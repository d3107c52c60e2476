"""The audit of a data set: what tells real from fake besides the pictures; tables and a page."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tffjax.data import ImageFile, find, fingerprint, label_warning, relative_names
from tffjax.data.duplicates import Group, duplicate_groups
from tffjax.data.facts import Facts, all_facts
from tffjax.data.folders import SPLITS
from tffjax.data.labels import label_word
from tffjax.data.loading import THREADS
from tffjax.data.traps import LIMIT, TRAPS, Trap, by_generator, facts_of, measure
from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.report.audit_page import audit_page
from tffjax.results.generators import ALL
from tffjax.results.run_result import RunResult
from tffjax.results.tables import write_parquet, write_table
from tffjax.studies.call import PathLike, paths_of


class Findings(NamedTuple):
    """What an audit finds.

    Attributes:
        traps: generator, or `all` for all images, and what each trap tells about its labels.
        groups: of duplicates.
    """

    traps: list[tuple[str, Trap]]
    groups: tuple[Group, ...]

    @property
    def found(self) -> list[tuple[str, Trap]]:
        """The traps that give the labels away."""
        return [(name, trap) for name, trap in self.traps if trap.gives_away]

    @property
    def misplaced(self) -> list[Group]:
        """Duplicates that should not be: the same file under both labels, or any in several splits."""
        return [group for group in self.groups if group.splits or (group.labels and group.kind == "exact")]


def findings(
    files: Sequence[ImageFile], facts: Sequence[Facts], splits: Sequence[str], limit: float = LIMIT
) -> Findings:
    """Traps over all labeled images and, if there are several, within each generator; and duplicates."""
    labeled = [i for i, file in enumerate(files) if file.label is not None]
    fake = np.array([files[i].label == 1 for i in labeled], bool)
    traps = []
    for generator, members in by_generator([files[i] for i in labeled]).items():
        own = [facts[labeled[i]] for i in members]
        traps += [(generator or ALL, measure(name, own, fake[members], limit)) for name in TRAPS]
    return Findings(traps, duplicate_groups(facts, [file.label for file in files], splits))


def audit(
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    limit: float = LIMIT,
    labels: str | None = None,
    workers: int = THREADS,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> RunResult:
    """Look for traps in a data set: file facts that tell real from fake, and duplicates.

    For each trap (`tffjax.data.traps`) a decision tree that sees nothing else guesses the labels; its balanced accuracy
    is cross-validated, over all images and within each generator. Above `limit`, and surely above one half, the trap
    gives the labels away.

    Args:
        data: images, folders, lists, packed records, TFDS, with labels.
        out: folder for the tables traps, duplicates and facts, and audit.html.
        limit: see above.
        labels: as of `tffjax.rank`.
        workers: images read at a time.
        overwrite: replace what tffjax wrote at `out` before.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The run; `summary["gives_away"]` and `summary["misplaced_duplicates"]` are empty and 0 if the data are clean.

    Raises:
        InputError: as `tffjax.data.find`; there are no images that can be read; `out` is not free.
    """
    reporter, out, paths = reporter or Lines(), Path(out), paths_of(data)
    directory.check_free(out, overwrite)
    with reporter.busy("looking for images"):
        found = find(paths, labels)
    for warning in (*found.warnings, label_warning(found.files)):
        if warning:
            reporter.warn(warning)
    every, names = found.files, relative_names(found.files)
    identity = {"images": fingerprint(every, names), "arguments": {"limit": limit, "labels": labels}}
    record = run_record("audit", identity, sources=found.kinds, computes=False, data=paths)
    with reporter.progress("reading", len(every), "images") as advance:
        read = facts_of(every, all_facts, workers, advance)
    present = [i for i, facts in enumerate(read) if facts is not None]
    if not present:
        raise InputError(f"none of the {len(every)} images can be read")
    files, facts = [every[i] for i in present], [read[i] for i in present]
    splits = [_split(file, paths) for file in files]
    with reporter.busy("looking for traps"):
        seen = findings(files, facts, splits, limit)
    kept = [names[i] for i in present]
    with directory.start(out, record, overwrite=overwrite) as run, run.finish() as (folder, results):
        write_table(_traps_table(seen), folder / "traps")
        write_table(_duplicates_table(seen, files, kept, splits), folder / "duplicates")
        write_parquet(_facts_table(files, facts, kept, splits), folder / "facts")
        (folder / "audit.html").write_text(audit_page(seen.traps, seen.groups, kept, limit), encoding="utf-8")
        results |= {
            "images": len(files),
            "unreadable": len(every) - len(files),
            "gives_away": [f"{trap.name} of {name}: {trap.accuracy:.3f}" for name, trap in seen.found],
            "misplaced_duplicates": len(seen.misplaced),
        }
    return RunResult(out)


def _split(file: ImageFile, paths: Sequence[Path]) -> str:
    """The folder train, val or test that an image is in, or else the given path."""
    inside = next((part for part in reversed(file.path.parts[:-1]) if part in SPLITS), None)
    return inside or next((str(path) for path in paths if path in file.path.parents), "")


def _traps_table(seen: Findings) -> pa.Table:
    names = ("generator", *Trap._fields)
    rows = [dict(zip(names, (generator, *trap), strict=True)) for generator, trap in seen.traps]
    return pa.Table.from_pylist(rows).rename_columns({"name": "trap"})


def _duplicates_table(
    seen: Findings, files: Sequence[ImageFile], names: Sequence[str], splits: Sequence[str]
) -> pa.Table:
    columns: dict[str, list[Any]] = collections.defaultdict(list)
    for number, group in enumerate(seen.groups, 1):
        for i in group.members:
            columns["group"].append(number)
            columns["kind"].append(group.kind)
            columns["path"].append(names[i])
            columns["label"].append(label_word(files[i].label))
            columns["generator"].append(files[i].generator)
            columns["split"].append(splits[i])
    schema = {"group": pa.int64(), **dict.fromkeys(("kind", "path", "label", "generator", "split"), pa.string())}
    return pa.table({name: pa.array(columns[name], kind) for name, kind in schema.items()})


def _facts_table(
    files: Sequence[ImageFile], facts: Sequence[Facts], names: Sequence[str], splits: Sequence[str]
) -> pa.Table:
    rows = []
    for file, one, name, split in zip(files, facts, names, splits, strict=True):
        who = {"path": name, "generator": file.generator, "category": file.category,
               "label": label_word(file.label), "split": split}  # fmt: skip
        known = dataclasses.asdict(one) | {"sha256": one.sha256.hex()}
        known["hash"] = None if one.hash is None else f"{one.hash:016x}"
        known["red"], known["green"], known["blue"] = known.pop("color")
        known["grid_at_corner"], known["grid_anywhere"] = known.pop("grid")
        rows.append(who | known)
    return pa.Table.from_pylist(rows)
