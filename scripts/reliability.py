"""Figures of docs/reliability.md: kills, memory, races, and what it costs to know images by what they hold.

    python scripts/reliability.py kills --count 100
    python scripts/reliability.py memory --images 3000
    python scripts/reliability.py races --count 50
    python scripts/reliability.py identity --images 1000

Small networks and the fake study of the tests; images of noise.
"""

import argparse
import gc
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import fake_study
import studies
from command import save_image

from tffjax.data import batches, find_images, plan
from tffjax.data.preprocessing import Transform
from tffjax.errors import InputError
from tffjax.pipeline import directory, streaming
from tffjax.pipeline.contents import Contents
from tffjax.pipeline.reporter import Silent
from tffjax.pipeline.request import Reading, Request
from tffjax.pipeline.run import run
from tffjax.places import look, new_folder
from tffjax.studies.call import study_class

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["__main__"])

WATCHED = ("predict", "rank", "dropout", "color", "lrpmax")


def images_of_noise(folder: Path, count: int, side: int) -> Path:
    """So many images of two generators and both labels; every 40th one is another."""
    for index in range(count):
        path = folder / f"g{index % 2}/{('0_real', '1_fake')[index % 4 > 1]}/{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < 40:
            save_image(path, index, side)
        else:
            other = index % 40
            os.link(folder / f"g{other % 2}/{('0_real', '1_fake')[other % 4 > 1]}/{other:05}.png", path)
    return folder


# Kills


def _go_on(data: Path, out: Path, seconds: float) -> None:
    def slow(*arguments: object) -> Iterator[streaming.Done]:
        for done in streaming.stream(*arguments):
            time.sleep(seconds)
            yield done

    resume = (out / directory.RECORD).exists()
    request = Request((data,), out, Reading(batch_size=4), resume=resume)
    run(fake_study.FakeStudy(), request, Silent(), 0.0, slow)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kills(count: int, folder: Path) -> str:
    """Kill the fake study at random moments, up to five times a run, and compare what comes out in the end."""
    data, draw, killed, runs = images_of_noise(folder / "data", 30, 8), random.Random(0), 0, 0
    _go_on(data, folder / "whole", 0)
    while killed < count:
        out = folder / f"run-{runs}"
        for _ in range(5):
            process = processes.Process(target=_go_on, args=(data, out, 0.02))
            before = _size_of(out / "log.jsonl")
            process.start()
            while _size_of(out / "log.jsonl") == before and process.is_alive():
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.3))  # a run takes as long
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        try:
            _go_on(data, out, 0)
        except InputError as error:  # killed when it was all but done
            sys.exit(f"run {runs} does not go on: {error}")
        studies.assert_same_files(out, folder / "whole")
        shutil.rmtree(out)
        runs += 1
    return f"{killed} kills of {runs} runs: the same bytes in all"


# Memory


def resident() -> float:
    """Memory of this process in MiB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _watch(command: str, data: Path, folder: Path, ranking: Path, batch_size: int) -> None:
    options = {
        "predict": {},
        "rank": {"confidence": 0.0, "bootstrap": 5, "per_image": True},
        "dropout": {"ranking": str(ranking), "ks": (2,), "draws": 2},
        "color": {"ranking": str(ranking), "k": 3},
        "lrpmax": {"ranking": str(ranking), "k": 3, "top": 2, "label": "any"},
    }[command]
    seen: list[tuple[int, float]] = []

    def watched(*arguments: object) -> Iterator[streaming.Done]:
        for done in streaming.stream(*arguments):
            yield done
            if not seen or done.position > seen[-1][0]:  # of the first pass
                seen.append((done.position, resident()))

    request = Request((data,), folder / command, Reading(batch_size=batch_size))
    run(study_class(command)(studies.network("decisive"), **options), request, Silent(), stream=watched)
    first = next(value for position, value in seen if position * batch_size >= 200)
    last = max(seen)
    print(f"{command}: {first:.0f} MiB after 200 images, {last[1]:.0f} after {last[0] * batch_size}: "
          f"{last[1] / first - 1:+.1%}", flush=True)  # fmt: skip


def memory(count: int, folder: Path) -> str:
    """Resident memory of each study after 200 images and after all of them."""
    data, ranking = images_of_noise(folder / "data", count, 64), studies.make_ranking(folder / "r.csv")
    for command in WATCHED:
        process = processes.Process(target=_watch, args=(command, data, folder, ranking, 8))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{command}: exit code {process.exitcode}")
    return f"{count} images of 64 pixels, a small network, batches of 8"


# Races


def _write(path: Path, text: str, begin: object) -> None:
    begin.wait()
    try:
        with new_folder(look(path)) as temporary:
            (temporary / "result").write_text(text)
            time.sleep(0.01)
    except InputError:
        pass


def races(count: int, folder: Path) -> str:
    """Two processes that write one output; both results must be somewhere."""
    for race in range(count):
        out, begin = folder / f"{race}", processes.Barrier(2)
        writers = [processes.Process(target=_write, args=(out, text, begin)) for text in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = {path.read_text() for path in (out / "result", folder / f"{race}-2/result")}
        if found != {"a", "b"}:
            sys.exit(f"race {race}: only {found} is left")
    return f"{count} races of two processes: both results are kept in all"


# Identity


def identity(count: int, folder: Path) -> str:
    """Processor time of reading images, and of looking whether they are the same."""
    files = find_images([images_of_noise(folder / "data", count, 256)])
    transform, contents = Transform(None, 224), Contents(files)
    begin = time.process_time()
    for batch in batches(plan(files, transform, 16), files, transform, 16):
        contents.take(batch.contents)
    read = time.process_time() - begin
    begin = time.process_time()
    contents.check()
    stamps = time.process_time() - begin
    contents = Contents(files)
    begin = time.process_time()
    contents.read_all()
    size = sum(file.num_bytes for file in files) / 1e6
    return (f"{count} images of {size:.0f} MB: {read:.2f} s to read, of which {time.process_time() - begin:.2f} s for "
            f"hashes; {1000 * stamps:.0f} ms to look at their times")  # fmt: skip


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "memory", "races", "identity"))
    parser.add_argument("--count", "--images", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        print(globals()[options.what](options.count, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
