"""A study, from a request to a finished run directory."""

from pathlib import Path

from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.pipeline.forecast import probe
from tffjax.pipeline.images import images_for
from tffjax.pipeline.passes import WHOLE, Stream, contents_of, finish, go_through, merged, request_record, resumable
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.pipeline.request import Request
from tffjax.pipeline.shards import run_shard
from tffjax.pipeline.study import Ended, Study


def run(
    study: Study,
    request: Request,
    reporter: Reporter | None = None,
    save_seconds: float | None = None,
    stream: Stream | None = None,
) -> Path:
    """Do a study, from where its run directory stands; returns the run directory.

    With `request.shard`, that part of it only, in a directory of its own (`tffjax.pipeline.shards`).

    Raises:
        InputError: the images, the study or the run directory do not allow it; interrupted; the disk is full.
    """
    reporter = reporter or Lines()
    if not (request.resume or request.shard):
        directory.check_free(request.out, request.overwrite)
    images = images_for(study, request, reporter)
    line = study.plan(images)
    record = request_record(study, request, images)
    if request.dry_run:
        reporter.say(f"would {line}, into {request.out}")
        if forecast := probe(study, images, reporter):
            reporter.say(f"{forecast}; and {forecast.compiling:.0f} s to compile")
            if forecast.more:
                reporter.say("that is the first pass; what the next ones take depends on what it finds")
        return request.out
    if request.shard:
        return run_shard(study, request, images, record, reporter, save_seconds, stream)
    if request.resume:
        opened = directory.resume(request.out, record)
    else:
        opened = directory.start(request.out, record, overwrite=request.overwrite)
    with opened as place:
        if place.done:
            reporter.say(f"{request.out} is done already")
            study.say(images, place.record["results"], place.path, reporter)
            return request.out
        with resumable(place, f"tffjax {study.name} --resume {request.out}", request.resume):
            try:
                ended, contents = list[Ended](), contents_of([place], images, reporter)
                while (work := study.next_pass(images, ended)) is not None:
                    strict, number = request.reading.strict, len(ended)
                    go_through(place, number, work, images, contents, WHOLE, strict, reporter, save_seconds, stream)
                    ended.append(merged([place], place, number, work, images))
                finish(study, place, images, ended, reporter)
            except InputError:  # it would end like this again
                if not request.resume:
                    place.discard()
                raise
    return request.out
