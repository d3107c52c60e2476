"""Hostile inputs by kind, each tried with the commands that take it, in one process. `python tests/corpus.py` counts.

A case is handled well if the command ends as the table says, and in any case: within `SECONDS`, with exit code 0, 1 or
2, without a traceback, with at most `LINES` lines on standard error, the last one naming what is wrong; nothing
half-written stays behind, and no file that was there before is another one.
"""

# ruff: noqa: E501  a kind is a line of the table

import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import studies
from command import save_image, tffjax_command
from PIL import Image

from tffjax.files import MARKER, RECORD
from tffjax.pipeline import directory
from tffjax.pipeline.packing import Packing, pack
from tffjax.pipeline.reporter import Silent

SECONDS, LINES = 30, 14


class Kind(NamedTuple):
    """A kind of hostile input.

    Attributes:
        place: what it is given as, a key of `COMMANDS`.
        make: makes it in a folder, and returns what is given.
        says: pattern of what the command says when it refuses it; None: it does its work.
        probe: it stands in the list of probes that this corpus began with.
    """

    place: str
    make: Callable[[Path], object]
    says: str | None = None
    probe: bool = False


class Verdict(NamedTuple):
    """A kind tried with a command: what is wrong, empty if it is handled well."""

    kind: str
    command: str
    wrong: str


class Hangs(BaseException):
    """Nothing catches it, and so it ends the command."""


# What is made


def good(folder: Path) -> Path:
    """A folder of four images, of a generator, with both labels."""
    return studies.make_images(folder / "data", generators=("biggan",))


def beside(name: str, make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Good images, and something among them."""

    def both(folder: Path) -> Path:
        data = good(folder)
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        make(data / name)
        return data

    return both


def alone(name: str, make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Something, given itself."""

    def one(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return one


def nothing(path: Path) -> None:
    """Nothing is there."""


def fifo(path: Path) -> None:
    """A FIFO that nobody writes to."""
    os.mkfifo(path)


def sock(path: Path) -> None:
    """A socket; its name may have 107 bytes only."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(before)


def link(to: str) -> Callable[[Path], None]:
    """A link."""
    return lambda path: path.symlink_to(to)


def content(data: bytes | str) -> Callable[[Path], None]:
    """A file of these bytes."""
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data) and None


def png_header(height: int, width: int) -> bytes:
    """A PNG file that ends where its pixels would begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


def picture(mode: str, form: str, **options: object) -> Callable[[Path], None]:
    """An image of an unusual mode."""

    def save(path: Path) -> None:
        bands = {"RGBA": 4, "CMYK": 4, "LA": 2, "L": 1, "P": 1, "I;16": 1, "RGB": 3}[mode]
        pixels = np.random.default_rng(3).integers(0, 256, (64, 64, bands), np.uint8).squeeze()
        image = Image.fromarray(
            pixels.astype(np.uint16) * 257 if mode == "I;16" else pixels, None if bands == 1 else mode
        )
        image = image.convert("P") if mode == "P" else image
        image.save(path, form, **options)

    return save


def cut(length: int) -> Callable[[Path], None]:
    """An image that ends early."""
    return lambda path: save_image(path, 5).write_bytes(path.read_bytes()[:length]) and None


def sizes(folder: Path) -> Path:
    """Images of nine sizes."""
    for side in range(9):
        save_image(folder / f"data/{side}.png", side, 60 + side)
    return folder / "data"


def run_directory(path: Path) -> None:
    """A run directory with a plot in it."""
    path.mkdir()
    save_image(path / "plot.png", 8)
    for name in (MARKER, RECORD):
        (path / name).touch()


def records(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Packed records, to which something happens."""

    def make(folder: Path) -> Path:
        pack(Packing((good(folder),), shard_images=2), folder / "records", 1, reporter=Silent())
        change(folder / "records")
        return folder / "records"

    return make


def of_file(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change the content of a file in a folder."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def table(columns: dict[str, list]) -> Callable[[Path], None]:
    """A list as Parquet."""
    return lambda path: pyarrow.parquet.write_table(pa.table(columns), path)


def list_of_another_label(folder: Path) -> Path:
    """A list of good images."""
    good(folder)
    return alone("l.csv", content("path,label\ndata/biggan/0_real/0.png,maybe\n"))(folder)


def ranking(text: bytes | str) -> Callable[[Path], Path]:
    """A ranking of this text."""
    return alone("ranking.csv", content(text))


def card(text: bytes | str) -> Callable[[Path], Path]:
    """A checkpoint of a card only."""

    def make(folder: Path) -> Path:
        (folder / "detector").mkdir()
        content(text)(folder / "detector/card.json")
        return folder / "detector"

    return make


REQUEST = {
    "command": "predict",
    "identity": {"images": {"count": 4}, "arguments": {}},
    "paths": {"weights": "decisive", "data": []},
}
KEY = studies.SHUFFLED[0]
HEADER = "key,mean_relevance\n"


def run_of(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A run directory that was begun, to which something happens."""

    def make(folder: Path) -> Path:
        with directory.start(folder / "run", REQUEST):
            pass
        change(folder / "run")
        return folder / "run"

    return make


def occupied(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """An output's place, where something is."""

    def taken(folder: Path) -> Path:
        make(folder / "out")
        return folder / "out"

    return taken


def thesis(path: Path) -> None:
    """A folder of somebody's."""
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


NOT_FILES = {
    "FIFO": fifo,
    "device": link("/dev/zero"),
    "socket": sock,
    "link to nothing": link("gone"),
    "loop of links": link("x.png"),
}

KINDS: dict[str, Kind] = {
    # Data that commands read all the same
    **{f"a {what} beside images": Kind("data", beside("x.png", make), probe=True) for what, make in NOT_FILES.items()},
    "a run directory beside images": Kind("data", beside("run", run_directory), probe=True),
    "an image cut off behind its header": Kind("data", beside("biggan/0_real/9.png", cut(300)), probe=True),
    "an image cut off in its header": Kind("data", beside("biggan/0_real/9.png", cut(20))),
    "an empty file": Kind("data", beside("biggan/0_real/9.png", content(b""))),
    "text called an image": Kind("data", beside("biggan/0_real/9.jpg", content("no image"))),
    "a header of 10^10 pixels": Kind("data", beside("biggan/0_real/9.png", content(png_header(10**5, 10**5)))),
    "a folder called an image": Kind("data", beside("biggan/0_real/dir.png", lambda path: save_image(path / "y.png", 7))),
    "a link to the same image": Kind("data", beside("biggan/0_real/9.png", link("0.png"))),
    "a link back to a folder above": Kind("data", beside("biggan/loop", link(".."))),
    "a name that is not UTF-8": Kind("data", beside(os.fsdecode(b"caf\xe9/0_real/\xff.png"), lambda p: save_image(p, 6)), probe=True),
    "a name of 240 characters": Kind("data", beside(f"{'g' * 240}/1_fake/{'n' * 236}.png", lambda p: save_image(p, 6))),
    "a name with $, =, quotes, a newline": Kind("data", beside("=$\\frac$\"'\n/1_fake/=1+1.png", lambda p: save_image(p, 6))),
    "16 bits": Kind("data", beside("biggan/0_real/9.png", picture("I;16", "PNG"))),
    "an alpha channel": Kind("data", beside("biggan/0_real/9.png", picture("RGBA", "PNG"))),
    "gray with an alpha channel": Kind("data", beside("biggan/0_real/9.png", picture("LA", "PNG"))),
    "a palette with transparency": Kind("data", beside("biggan/0_real/9.png", picture("P", "PNG", transparency=0))),
    "CMYK": Kind("data", beside("biggan/0_real/9.jpg", picture("CMYK", "JPEG"))),
    "damaged EXIF": Kind("data", beside("biggan/0_real/9.jpg", picture("RGB", "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))),
    "another extension": Kind("data", beside("biggan/0_real/9.PNG", lambda path: save_image(path, 6))),
    "a hidden file": Kind("data", beside("biggan/0_real/._0.png", content(b"AppleDouble"))),
    # Data that is refused
    **{
        f"a {what} itself": Kind("data", alone("x.png", make), "FIFO|device|socket|no such file|symbolic links", probe=True)
        for what, make in NOT_FILES.items()
    },
    "a FIFO called a list": Kind("data", alone("x.csv", fifo), "a FIFO"),
    "nothing": Kind("data", alone("none", nothing), "no such file or folder"),
    "an empty folder": Kind("data", alone("empty", Path.mkdir), "no images in it"),
    "a folder of text": Kind("data", alone("text", lambda p: (p.mkdir(), (p / "a.txt").touch())), "no images in it"),
    "only an unreadable image": Kind("studied", alone("x.png", cut(20)), "readable|could be read|label|0_real"),
    "a batch of 17.8 GiB": Kind("large", alone("x.png", content(png_header(9990, 9990))), "give --batch-size 3", probe=True),
    "nine sizes": Kind("large", sizes, "9 different sizes"),
    "a generator called all": Kind("studied", beside("all/0_real/0.png", lambda p: save_image(p, 6)), "is called all", probe=True),
    "a list without paths": Kind("data", alone("l.csv", content("label\nreal\n")), "no column path"),
    "a list of files that are not there": Kind("data", alone("l.csv", content("path\nx.png\n")), "which is no file"),
    "a list that is not UTF-8": Kind("data", alone("l.csv", content(b"path\ncaf\xe9.png\n")), "cannot be read as a list"),
    "a list of another label": Kind("data", list_of_another_label, "has the label maybe"),
    "a damaged Parquet list": Kind("data", alone("l.parquet", content(b"PAR1 no")), "cannot be read as a list"),
    "a Parquet list of numbers": Kind("data", alone("l.parquet", table({"path": [1, 2]})), "which is no file"),
    "an empty list": Kind("data", alone("l.csv", content("path\n")), "has no rows"),
    "records without their manifest": Kind("data", records(lambda p: (p / "records.json").unlink()), "without a manifest"),
    "records with a damaged manifest": Kind("data", records(of_file("records.json", lambda b: b[:50])), "damaged"),
    "records with a damaged index": Kind("data", records(of_file("index.parquet", lambda b: b[:-9] + b"123456789")), "damaged"),
    "records without a shard": Kind("data", records(lambda p: (p / "00000-of-00002.array_record").unlink()), "missing"),
    "an address of TFDS that is none": Kind("data", lambda folder: "tfds:x", "write tfds:NAME/SPLIT"),
    # Weights
    "no weights": Kind("weights", alone("none", nothing), "no such checkpoint"),
    "weights: an empty folder": Kind("weights", alone("empty", Path.mkdir), "has no card.json"),
    "weights: a file": Kind("weights", alone("x.pth", content(b"\x80")), "convert it first"),
    "weights: a FIFO": Kind("weights", alone("x.pth", fifo), "no such checkpoint"),
    "weights: a card that is no JSON": Kind("weights", card("{"), "card"),
    "weights: a card that is a list": Kind("weights", card("[]"), "card"),
    "weights: a card that is not UTF-8": Kind("weights", card(b"\xff"), "card is damaged"),
    "weights: a card of another version": Kind("weights", card('{"format": "9.0"}'), "card|format|version"),
    "weights: a card 10,000 levels deep": Kind("weights", card("[" * 10_000), "card"),
    "weights whose logits are NaN": Kind("network", lambda folder: "nan", "NaN|finite", probe=True),
    # Rankings
    "no ranking": Kind("ranking", alone("none.csv", nothing), "cannot be read as a ranking"),
    "an empty ranking": Kind("ranking", ranking(""), "key,mean_relevance|channels"),
    "a ranking without rows": Kind("ranking", ranking(HEADER), "channel|ranking"),
    "a ranking with other columns": Kind("ranking", ranking("a,b\n1,2\n"), "key,mean_relevance"),
    "a ranking of NaN": Kind("ranking", ranking(f"{HEADER}{KEY},nan\n"), "key,mean_relevance"),
    "a ranking of a word": Kind("ranking", ranking(f"{HEADER}{KEY},high\n"), "key,mean_relevance"),
    "a ranking of another network": Kind("ranked", ranking(f"{HEADER}layer9.#0(T=2),1\n"), "layer9"),
    "a ranking with a channel twice": Kind("ranking", ranking(f"{HEADER}{KEY},1\n{KEY},1\n"), "twice"),
    "a ranking that is not UTF-8": Kind("ranking", ranking(b"key,mean_relevance\n\xff,1\n"), "cannot be read"),
    "a ranking of NUL bytes": Kind("ranking", ranking(b"\0" * 99), "cannot be read|key,mean_relevance"),
    "a ranking that is a FIFO": Kind("ranking", alone("r.csv", fifo), "FIFO|regular"),
    "a ranking that is a folder": Kind("ranking", alone("r.csv", Path.mkdir), "cannot be read"),
    # Run directories
    "no run": Kind("run", alone("none", nothing), "is not a run directory|holds no shards|no such"),
    "a run that is a file": Kind("run", alone("file", content("x")), "cannot be read|not a run|no such run|holds no shards|Not a directory"),
    "a run of somebody": Kind("run", alone("run", thesis), "is not a run directory|holds no shards"),
    "a run with a damaged record": Kind("run", run_of(of_file(RECORD, lambda b: b[:9])), "cannot be read|holds no shards"),
    "a record that is a list": Kind("run", run_of(lambda p: (p / RECORD).write_text("[]")), "not the record|holds no shards"),
    "a record of nothing": Kind("run", run_of(lambda p: (p / RECORD).write_text(json.dumps(dict.fromkeys(REQUEST)))), "record|holds no shards"),
    "a record that is not UTF-8": Kind("run", run_of(lambda p: (p / RECORD).write_bytes(b"\xff")), "cannot be read|holds no shards"),
    "a record that is a FIFO": Kind("run", run_of(lambda p: ((p / RECORD).unlink(), fifo(p / RECORD))), "is not a run|cannot be read|holds no shards|regular"),
    "shards of a strange name": Kind("run", run_of(lambda p: (p / "shards/x-of-y").mkdir(parents=True)), "holds no shards|made by|record|a run of"),
    "an index that leads elsewhere": Kind("run", run_of(lambda p: (p / "patches").symlink_to("/etc")), "holds no shards|made by|record|a run of", probe=True),
    # Places of results
    "an output that is a file": Kind("out", occupied(content("mine")), "is a file|exists already|not a checkpoint", probe=True),
    "an output that is a folder of somebody": Kind("out", occupied(thesis), "is not empty|is a folder", probe=True),
    "an output below a file": Kind("out", lambda folder: (content("mine")(folder / "f"), folder / "f/out")[1], "is a file|Not a directory"),
    "an output whose name is too long": Kind("out", lambda folder: folder / ("o" * 300), "name too long"),
    "an output that is a FIFO": Kind("out", occupied(fifo), "is a file|no regular file|exists already|is no"),
}  # fmt: skip


# With what it is tried

SMALL = ("--batch-size", 4)
OF_RANKING = {"dropout": ("--k", 2, "--random", 1), "find-k": ("--max-k", 3, "--random", 1), "color": ("--k", 2),
              "lrpmax": ("--k", 2, "--top", 1)}  # fmt: skip


class Given(NamedTuple):
    """Good inputs, one of which the hostile one takes the place of."""

    folder: Path
    data: object
    ranking: Path
    weights: object = "decisive"
    out: Path | None = None

    def studied(self, command: str) -> tuple:
        """The words of a study."""
        batch = () if command == "heatmap" else SMALL
        ranked = ("--ranking", self.ranking, *OF_RANKING[command]) if command in OF_RANKING else ()
        special = {"rank": ("--confidence", 0, "--own-size", "--bootstrap", 2), "heatmap": ("--method", "lrp")}
        return command, self.weights, self.data, *ranked, *special.get(command, ()), *batch, "--out", self.place

    @property
    def place(self) -> Path:
        """Where results go."""
        return self.out or self.folder / "out"


STUDIES = ("predict", "rank", *OF_RANKING)


def _study(command: str) -> Callable[[Given], tuple]:
    return lambda given: given.studied(command)


def _checked(given: Given) -> tuple:
    return "check", given.weights, given.data, "--limit", 2


def _audit(given: Given) -> tuple:
    return "audit", given.data, "--out", given.place


def _pack(given: Given) -> tuple:
    return "pack", given.data, "--out", given.place


def _compare(given: Given) -> tuple:
    return "compare", given.ranking, given.ranking, "--k", 1, "--out", given.place


COMMANDS: dict[str, dict[str, Callable[[Given], tuple]]] = {
    "data": {name: _study(name) for name in (*STUDIES, "heatmap")} | {"check": _checked, "audit": _audit, "pack": _pack},
    "large": {name: lambda given, name=name: (*given.studied(name), "--batch-size", 16) for name in STUDIES},
    "studied": {name: _study(name) for name in STUDIES},
    "weights": {name: _study(name) for name in (*STUDIES, "heatmap")} | {"check": _checked},
    "network": {name: _study(name) for name in ("predict", "heatmap")},
    "ranked": {name: _study(name) for name in OF_RANKING},
    "ranking": {name: _study(name) for name in OF_RANKING} | {"compare": _compare},
    "run": {
        **{f"{name} --resume": lambda given, name=name: (name, "--resume", given.data) for name in STUDIES},
        "merge": lambda given: ("merge", given.data),
        "report": lambda given: ("report", given.data, "--out", given.folder / "report.html"),
    },
    "out": {name: _study(name) for name in (*STUDIES, "heatmap")}
    | {"audit": _audit, "pack": _pack, "compare": _compare, "report": lambda given: ("report", given.folder, "--out", given.place)},
}  # fmt: skip
"""What the hostile input is given as -> commands that take it, and their words."""

# How it went


def verdicts(name: str, everything: bool = True) -> list[Verdict]:
    """A kind tried with all of its commands, or with two, which are other ones for the next kind."""
    kind = KINDS[name]
    commands, turn = list(COMMANDS[kind.place]), list(KINDS).index(name)
    if not everything:
        commands = {commands[(turn + step) % len(commands)]: None for step in (0, len(commands) // 2)}
    return [Verdict(name, command, _wrong(kind, COMMANDS[kind.place][command])) for command in commands]


def _wrong(kind: Kind, words: Callable[[Given], tuple]) -> str:
    networks = contextlib.nullcontext() if kind.place == "weights" else studies.networks_by_name()
    with tempfile.TemporaryDirectory(prefix="corpus-") as name, networks:
        folder = Path(name)
        (folder / "hostile").mkdir()
        hostile = kind.make(folder / "hostile")
        usual = folder / "usual"
        given = Given(folder, good(usual), studies.make_ranking(usual / "ranking.csv"))
        place = {
            "weights": "weights",
            "network": "weights",
            "ranking": "ranking",
            "ranked": "ranking",
            "out": "out",
        }.get(kind.place, "data")
        before = _files(folder)
        try:
            with _limited():
                ended = tffjax_command(*words(given._replace(**{place: hostile})))
        except Hangs:
            return f"more than {SECONDS} s"
        return _judged(kind, ended, before, folder)


def _judged(kind: Kind, ended: object, before: dict[str, tuple], folder: Path) -> str:
    after = _files(folder)
    lines = ended.err.splitlines()
    if ended.code not in ((0, 1) if kind.says is None else (2,)):
        return f"exit code {ended.code}: {' / '.join(lines[-3:])}"
    if "Traceback" in ended.err or "Warning" in ended.err:
        return f"a traceback or a raw warning: {lines[-1]}"
    if len(lines) > LINES:
        return f"{len(lines)} lines"
    if kind.says is not None and not (lines and re.search(kind.says, lines[-1])):
        return f"says: {lines[-1] if lines else 'nothing'}"
    if changed := [path for path in before if path.startswith("hostile") and after.get(path) != before[path]
                   and not path.endswith((".lock", "log.jsonl"))]:  # fmt: skip
        return f"changed {changed[0]}"
    if left := [path for path in after if ".tmp" in path]:
        return f"left {left[0]} behind"
    return ""


def _files(folder: Path) -> dict[str, tuple]:
    every = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            for path, stat in every if not path.is_dir() or path.is_symlink()}  # fmt: skip


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main(names: Sequence[str]) -> None:
    """Try kinds, or all, and print the counts and what is handled badly."""
    found = [verdict for name in names or KINDS for verdict in verdicts(name)]
    badly = [verdict for verdict in found if verdict.wrong]
    for verdict in badly:
        print(f"BADLY {verdict.command}, {verdict.kind}: {verdict.wrong}")
    probes = sum(kind.probe for kind in KINDS.values())
    print(
        f"{len(KINDS)} kinds ({probes} of the probes), {len(found)} cases: {len(found) - len(badly)} well, {len(badly)} badly"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
