"""Measure tffjax on a GPU in one command: environment, correctness, exactness, speed, floor, kernels, pipeline.

    python scripts/gpu_visit.py --out gpu-visit                  everything, in 480 seconds
    python scripts/gpu_visit.py --out gpu-visit --budget 300     again in the same folder: goes on where it ended
    python scripts/gpu_visit.py --parts 2,3 --again              only these parts, anew
    python scripts/gpu_visit.py --quick --out rehearsal          a rehearsal with small networks, also on a CPU
    python scripts/gpu_visit.py --quick --all --out rehearsal    with the programs that then repeat others, too
    python scripts/gpu_visit.py --list                           the programs in their order, and no more

Needs the checkout only, and `gpu-goldens/` in it (`scripts/gpu_goldens.py` makes it elsewhere); what a part needs
beyond JAX, Flax and NumPy and does not find is listed as not run. Programs run in the order of their worth, each part
within its share of the budget; every result is on the disk before the next program begins.

Writes into one flat folder: gpu.json, visit.md (tables for docs/speed.md), journal.jsonl (what is done), log.txt,
programs.txt.gz (compiled programs of LRP) and cache.tar.gz (JAX's compilation cache: a second visit unpacks it).
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpu import tables
from gpu.work import WORK, Setup, Work

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    1: ("environment", 0.02),
    2: ("correctness", 0.25),
    3: ("exactness", 0.15),
    4: ("speed", 0.50),
    5: ("floor", 0.10),
    6: ("kernels", 0.30),
    7: ("pipeline", 0.3),
}
"""Title of each part, and its share of the budget at most."""

GRACE = 15
"""Seconds that a program may run beyond all the budget of its part, or beyond the visit's, before it is ended."""


class Entry(NamedTuple):
    """A line of the journal: a program begins, gives a row of a table, or ends in some way."""

    program: str
    event: str  # begin, row, done, failed, not run
    seconds: float = 0.0
    table: str = ""
    row: dict[str, Any] | None = None
    reason: str = ""


class Journal:
    """The lines on the disk; a program is finished when it is done or cannot be run here."""

    def __init__(self, path: Path) -> None:
        """Reads what is there."""
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.entries = [Entry(**json.loads(line)) for line in lines]

    def add(self, entry: Entry) -> None:
        """Append a line, on the disk at once."""
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(entry._asdict()) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def ended(self) -> dict[str, Entry]:
        """The last end of each program."""
        return {e.program: e for e in self.entries if e.event in ("done", "failed", "not run")}

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(table, row) of every program's last run."""
        last: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if entry.event == "begin":
                last[entry.program] = []
            elif entry.event == "row":
                last.setdefault(entry.program, []).append(entry)
        for entries in last.values():
            yield from ((entry.table, entry.row) for entry in entries)


class Clock:
    """How much time a part has used in this visit, and what is left of its budget and of all."""

    def __init__(self, budget: float) -> None:
        """Starts now."""
        self.end, self.budget = time.time() + budget, budget
        self.used = dict.fromkeys(PARTS, 0.0)

    def left(self, part: int) -> float:
        """Seconds left for programs of a part."""
        return min(PARTS[part][1] * self.budget - self.used[part], self.end - time.time())


def visit(work: list[Work], journal: Journal, options: argparse.Namespace) -> None:
    """Run programs, in processes of one kind each, until all are done or the budget is used."""
    clock = Clock(options.budget)
    while work:
        work = [w for w in work if clock.left(w.part) > 0]
        if not work:
            return
        kind = work[0].kind
        together = itertools.takewhile(lambda w, kind=kind: w.kind == kind, work)
        _run_child(list(together), journal, clock, options)
        ended = journal.ended()
        work = [w for w in work if w.name not in ended]


def _run_child(work: list[Work], journal: Journal, clock: Clock, options: argparse.Namespace) -> None:
    """One process for these programs; it is ended when one of them takes too long."""
    child = [sys.executable, str(Path(__file__)), "--out", str(options.out), "--goldens", str(options.goldens)]
    child += ["--child", json.dumps([w.name for w in work]), *(["--quick"] if options.quick else [])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # programs start processes of their own on the same device
        "JAX_COMPILATION_CACHE_DIR": str(_cache(options.out)),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    by_name = {w.name: w for w in work}
    seen, running, since = len(journal.entries), None, time.time()
    with (options.out / "log.txt").open("a") as log:
        process = subprocess.Popen(child, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        while True:
            code = process.poll()
            journal.entries = Journal(journal.path).entries
            for entry in journal.entries[seen:]:
                if entry.event == "begin":
                    running, since = by_name[entry.program], time.time()
                    print(f"part {running.part}  {running.name}", flush=True)
                elif entry.event != "row":
                    clock.used[by_name[entry.program].part] += entry.seconds
                    print(f"        {entry.event} in {entry.seconds:.1f} s {entry.reason}", flush=True)
                    running = None
            seen = len(journal.entries)
            if code is not None:
                if running:
                    _end(journal, running, since, f"its process ended with code {code}")
                return
            limit = min(PARTS[running.part][1] * clock.budget, clock.end - since) if running else 0
            if running and time.time() - since > limit + GRACE:
                process.kill()
                process.wait()
                clock.used[running.part] += time.time() - since
                _end(journal, running, since, "took longer than its part's budget")
                return
            if running is None and clock.left(work[-1].part) <= 0 and time.time() > clock.end:
                process.kill()
                process.wait()
                return
            time.sleep(0.1)


def _end(journal: Journal, work: Work, since: float, reason: str) -> None:
    journal.add(Entry(work.name, "failed", time.time() - since, reason=reason))
    print(f"        failed: {reason}", flush=True)


def run_here(names: list[str], journal: Journal, options: argparse.Namespace) -> None:
    """The child: run these programs one after the other."""
    for work in (w for name in names for w in WORK if w.name == name):
        start = time.time()
        journal.add(Entry(work.name, "begin"))
        try:
            for table, row in work.run(Setup(options.goldens, options.out, options.quick)):
                journal.add(Entry(work.name, "row", table=table, row=row))
            end = Entry(work.name, "done", time.time() - start)
        except ImportError as error:
            end = Entry(work.name, "not run", time.time() - start, reason=f"{error.name or error} is missing")
        except Exception as error:
            import traceback

            traceback.print_exc()
            end = Entry(work.name, "failed", time.time() - start, reason=f"{type(error).__name__}: {error}"[:300])
        journal.add(end)


def write_results(journal: Journal, out: Path, chosen: list[Work]) -> None:
    """gpu.json and visit.md, of all that the journal holds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table, row in journal.rows():
        found.setdefault(table, []).append(row)
    ended = journal.ended()
    missing = [
        {"part": w.part, "program": w.name, "why": ended[w.name].reason if w.name in ended else "not reached"}
        for w in chosen
        if w.name not in ended or ended[w.name].event != "done"
    ]
    text = tables.markdown(found, missing)
    for name, content in (("gpu.json", json.dumps(found | {"missing": missing}, indent=1)), ("visit.md", text)):
        temporary = out / f".{name}"
        temporary.write_text(content)
        temporary.replace(out / name)


def _cache(out: Path) -> Path:
    return out.resolve().parent / f".{out.name}-cache"


def _pack(out: Path) -> None:
    with tarfile.open(out / "cache.tar.gz", "w:gz", compresslevel=3) as archive:
        archive.add(_cache(out), "cache")


def _unpack(out: Path) -> None:
    if (out / "cache.tar.gz").exists() and not _cache(out).exists():
        with tarfile.open(out / "cache.tar.gz") as archive:
            archive.extractall(_cache(out).parent, filter="data")
        (_cache(out).parent / "cache").rename(_cache(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-visit"))
    parser.add_argument("--goldens", type=Path, default=ROOT / "gpu-goldens")
    parser.add_argument("--budget", type=float, default=480, help="seconds")
    parser.add_argument("--first", nargs="+", default=[], metavar="PROGRAM", help="names of programs to begin with")
    parser.add_argument("--parts", default=",".join(map(str, PARTS)), help="numbers, such as 2,4")
    parser.add_argument("--again", action="store_true", help="also what is done already")
    parser.add_argument("--quick", action="store_true", help="small networks and batches")
    parser.add_argument("--all", action="store_true", help="with --quick: also programs that then repeat others")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out, options.goldens = options.out.resolve(), options.goldens.resolve()
    journal = Journal(options.out / "journal.jsonl")
    if options.child:
        return run_here(json.loads(options.child), journal, options)
    parts = {int(part) for part in options.parts.split(",")}
    if not parts <= PARTS.keys():
        parser.error(f"parts are {', '.join(map(str, PARTS))}")
    chosen = [w for w in WORK if w.part in parts and (options.all or not (options.quick and w.repeats))]
    done = set() if options.again else {name for name, end in journal.ended().items() if end.event == "done"}
    unknown = set(options.first) - {w.name for w in chosen}
    if unknown:
        parser.error(f"--list has no {', '.join(sorted(unknown))}")
    rank = {name: place for place, name in enumerate(options.first)}
    work = sorted((w for w in chosen if w.name not in done), key=lambda w: rank.get(w.name, len(rank)))
    for w in work:
        print(f"  {w.part} {PARTS[w.part][0]:12} {w.name}")
    if options.list:
        return None
    journal.entries = [e for e in journal.entries if e.program in done]  # what failed before is tried again
    journal.path.write_text("".join(json.dumps(e._asdict()) + "\n" for e in journal.entries))
    _unpack(options.out)
    _cache(options.out).mkdir(exist_ok=True)
    try:
        visit(work, journal, options)
    finally:
        write_results(journal, options.out, chosen)
        _pack(options.out)
    print((options.out / "visit.md").read_text())
    return None


if __name__ == "__main__":
    main()
