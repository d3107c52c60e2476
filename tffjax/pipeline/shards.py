"""Parts of a study that share nothing, and their merger.

A shard takes a run of whole batches of the one plan that all shards make for themselves, in a run directory of its own,
OUT/shards/I-of-N. It may die, be run again anywhere, or twice. `merge` ends a pass once all shards have ended theirs,
and keeps what it found in OUT/work; where a study has another pass, the shards are run again and find it there.
"""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tffjax.data.preprocessing import as_resize
from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.pipeline.directory import SHARDS, Run, State
from tffjax.pipeline.images import Images, images_for
from tffjax.pipeline.passes import Stream, contents_of, finish, go_through, merged, request_record, resumable
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.pipeline.request import Reading, Request, Shard
from tffjax.pipeline.study import Ended, Study


def run_shard(
    study: Study,
    request: Request,
    images: Images,
    record: dict[str, Any],
    reporter: Reporter,
    save_seconds: float | None,
    stream: Stream | None,
) -> Path:
    """The next pass of one shard, from where its directory stands; returns the directory.

    Raises:
        InputError: as `tffjax.pipeline.run.run`; the run is done; the shard was asked something else before.
    """
    shard, path = request.shard, request.out / SHARDS / str(request.shard)
    if directory.is_done(request.out):
        raise InputError(f"{request.out} holds a finished run; choose another folder")
    again = f"tffjax {study.name} ... --shard {shard.index}/{shard.count} once more"
    ours = {**record, "shard": list(shard)}
    path.parent.mkdir(parents=True, exist_ok=True)
    (request.out / directory.MARKER).touch()
    known = (path / directory.RECORD).exists() and not request.overwrite
    opened = directory.resume(path, ours) if known else directory.start(path, ours, overwrite=True)
    with opened as run, resumable(run, again, known):
        ended = _ended(study, images, request.out)
        work, number = study.next_pass(images, ended), len(ended)
        if work is None:
            raise InputError(f"all passes over the images have ended; run: tffjax merge {request.out}")
        contents, strict = contents_of([Run(request.out), run], images, reporter), request.reading.strict
        go_through(run, number, work, images, contents, shard, strict, reporter, save_seconds, stream)
        run.log("shard done", **{"pass": number})
    reporter.say(f"shard {shard.index} of {shard.count} is done; after all of them: tffjax merge {request.out}")
    return path


def merge(study: Study, out: Path, reporter: Reporter | None = None, data: tuple[Path, ...] = ()) -> bool:
    """Bring the shards of a run together: end their pass and, if it is the last one, finish the run.

    Args:
        study: as the shards had it; `tffjax merge` makes it again from their record.
        out: the run directory.
        reporter: where words go.
        data: the images, where they lie elsewhere now.

    Returns:
        Whether the run is finished; if not, the shards have another pass to do.

    Raises:
        InputError: shards are missing, unfinished, of several numbers or differ in what they were asked.
    """
    reporter = reporter or Lines()
    paths, record = shards_of(out)
    request = dataclasses.replace(request_of(record, out), **({"data": data} if data else {}))
    images = images_for(study, request, reporter)
    wanted = request_record(study, request, images)
    for path in paths:
        directory.check_same(path, directory.read_record(path), wanted)
    with _opened(out, wanted) as run, resumable(run, f"tffjax merge {out}", False):
        runs = [Run(path) for path in paths]
        ended = _ended(study, images, out)
        work = study.next_pass(images, ended)
        if work is not None:
            number = len(ended)
            _check_ended(runs, number, out)
            contents_of([run, *runs], images, reporter).save(run)
            found = merged(runs, run, number, work, images)
            run.save(number, State(len(images.batches(work.only)), True, found.skipped, found.sums.state()))
            ended.append(found)
        if study.next_pass(images, ended) is not None:
            reporter.say(f"pass {len(ended)} has ended; run the {len(paths)} shards again for the next one")
            return False
        finish(study, run, images, ended, reporter)
    return True


def _opened(out: Path, record: dict[str, Any]) -> contextlib.AbstractContextManager[Run]:
    return directory.resume(out, record) if (out / directory.RECORD).exists() else directory.adopt(out, record)


def shards_of(out: Path) -> tuple[list[Path], dict[str, Any]]:
    """The directories of all shards of a run in their order, and the record of the first.

    Raises:
        InputError: there are none, some are missing, or they are of several numbers.
    """
    found: dict[Shard, Path] = {}
    for path in sorted((out / SHARDS).iterdir()) if (out / SHARDS).is_dir() else ():
        if match := re.fullmatch(r"([0-9]+)-of-([0-9]+)", path.name):
            found[Shard(int(match[1]), int(match[2]))] = path
    if not found:
        raise InputError(f"{out} holds no shards; give the folder that their --out names")
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        raise InputError(
            f"{out} holds shards of {' and of '.join(map(str, counts))}; delete those of the wrong number in {SHARDS}/"
        )
    missing = [index for index in range(counts[0]) if Shard(index, counts[0]) not in found]
    if missing:
        raise InputError(f"{out}: shards {_some(missing)} of {counts[0]} are missing; run them first")
    paths = [found[Shard(index, counts[0])] for index in range(counts[0])]
    return paths, directory.read_record(paths[0])


def request_of(record: dict[str, Any], out: Path) -> Request:
    """The request that a record was made from.

    Raises:
        InputError: it does not say everything.
    """
    try:
        arguments = record["identity"]["arguments"]
        known = {field.name: arguments[field.name] for field in dataclasses.fields(Reading)}
        reading = Reading(**known | {"resize": as_resize(known["resize"])})
        weights = record["paths"]["weights"]
        data = tuple(map(Path, record["paths"]["data"]))
        return Request(data, out, reading, Path(weights) if weights else None)
    except (KeyError, TypeError) as error:
        raise InputError(f"{out}: its record is damaged, or of another version ({error}); start another run") from None


def _ended(study: Study, images: Images, out: Path) -> list[Ended]:
    """The passes that mergers have ended."""
    ended: list[Ended] = []
    run = Run(out)
    for number in itertools.count():
        state = run.load(number) if (out / directory.WORK).is_dir() else None
        if state is None:
            return ended
        work = study.next_pass(images, ended)
        sums = work.sums(run.folder(number))
        sums.restore(state.sums)
        ended.append(Ended(sums, state.skipped))


def _check_ended(runs: Sequence[Run], number: int, out: Path) -> None:
    states = [run.load(number) for run in runs]
    unfinished = [index for index, state in enumerate(states) if state is None or not state.ended]
    if unfinished:
        raise InputError(f"{out}: shards {_some(unfinished)} of {len(runs)} have not ended; run them first")


def _some(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices[:10])) + (f" and {len(indices) - 10} more" if len(indices) > 10 else "")
