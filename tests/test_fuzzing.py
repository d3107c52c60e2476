"""Any bytes in the place of cards, records, states, rankings, lists and images: nothing but InputError.

Few examples in the fast set; under `slow` there are many more.
"""

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
import studies
from command import save_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tffjax.data import find_images
from tffjax.data.image_file import ImageFile
from tffjax.data.preprocessing import Transform, decode, image_size
from tffjax.data.reading import read_known
from tffjax.data.records import read_manifest
from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.nn.generator import GeneratorCard
from tffjax.pipeline.contents import Contents
from tffjax.pipeline.directory import Run, State
from tffjax.pipeline.shards import request_of, shards_of
from tffjax.results.record import read_record
from tffjax.studies.rankings import read_ranking

FEW, MANY = 25, 1500
WORDS = ["", "key,mean_relevance\n", "layer1.0.conv1.#63(T=64)", "NaN", "1e999", "\0", "[" * 2000, "{", '"', "command",
         "identity", "paths", "arguments", "version", "2.0", "detector", "normalization", "graph"]  # fmt: skip


def damaged(whole: bytes):
    """A file with pieces of it changed, cut, doubled or put in."""

    def change(seed: int) -> bytes:
        draw, content = random.Random(seed), bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(content) + 1)
            match draw.randrange(5):
                case 0:
                    content[at : at + 1] = bytes([draw.randrange(256)])
                case 1:
                    del content[at:]
                case 2:
                    del content[at : at + draw.randrange(1, 9)]
                case 3:
                    content[at:at] = content[: draw.randrange(40)]
                case _:
                    content[at:at] = draw.choice(WORDS).encode()
        return bytes(content)

    return st.integers(0, 2**32).map(change)


def card_text() -> bytes:
    return studies.network("decisive").card.to_json().encode()


def record_text() -> bytes:
    reading = {"resize": None, "crop": 8, "random_crop": None, "batch_size": 4, "max_shapes": 8, "strict": False,
               "labels": None}  # fmt: skip
    record = {"command": "predict", "identity": {"arguments": reading}, "paths": {"weights": None, "data": ["x"]}}
    return json.dumps(record).encode()


def read_run(path: Path) -> None:
    request_of(read_record(path.parent), path.parent)
    shards_of(path.parent)


def saved(folder: Path, name: str) -> bytes:
    """A good file of each kind, as tffjax writes it."""
    run = Run(folder / "run")
    (folder / "run").mkdir()
    match name:
        case "state":
            run.save(0, State(3, False, {2: "damaged"}, {"sums": np.arange(4.0)}))
            return (run.work / "pass-0.npz").read_bytes()
        case "contents":
            Contents((ImageFile(Path("x.png")),)).save(run)
            return (run.work / "contents.npz").read_bytes()
        case "ranking":
            return studies.make_ranking(folder / "ranking.csv").read_bytes()
        case form:
            path = save_image(folder / "x.png", 0, 16)
            Image.open(path).save(folder / "x", form)
            return (folder / "x").read_bytes()


def load_state(path: Path) -> None:
    Run(path.parents[1]).load(0)


def load_contents(path: Path) -> None:
    Contents((ImageFile(Path("x.png")),)).load([Run(path.parents[1])])


def load_image(path: Path) -> None:
    for read in (image_size, decode, lambda p: read_known(ImageFile(p), Transform(20, 8))):
        read(path)


KINDS = {
    "card": (card_text, "card.json", lambda path: Card.from_json(path.read_bytes().decode("utf-8", "replace"))),
    "generator card": (card_text, "card.json", lambda path: GeneratorCard.from_json(path.read_text(errors="replace"))),
    "record": (record_text, "run.json", read_run),
    "manifest": (record_text, "records.json", lambda path: read_manifest(path.parent)),
    "list": (lambda: b"path,label\nx.png,real\n", "list.csv", lambda path: find_images([path])),
    "ranking": ("ranking", "ranking.csv", read_ranking),
    "state": ("state", "work/pass-0.npz", load_state),
    "contents": ("contents", "work/contents.npz", load_contents),
    **{form: (form, "x.png", load_image) for form in ("PNG", "JPEG", "WEBP")},
}
"""Kind -> a good file, its name, and what reads it."""


def fuzz(kind: str, folder: Path, examples: int) -> None:
    source, name, load = KINDS[kind]
    whole = saved(folder, source) if isinstance(source, str) else source()
    path = folder / "fuzzed" / name
    path.parent.mkdir(parents=True)

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.one_of(damaged(whole), st.binary(max_size=200)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            load(path)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_input_errors(kind, tmp_path):
    fuzz(kind, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_input_errors_many_times(kind, tmp_path):
    fuzz(kind, tmp_path, MANY)
