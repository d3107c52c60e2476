"""What tests of the studies share: small networks behind names of checkpoints, images, a ranking, interruptions."""

import contextlib
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from command import refused, save_image
from small import KEYS, SmallNet

import tffjax.pipeline.streaming
from tffjax.data.preprocessing import decode, normalize
from tffjax.nn import Model, checkpoint
from tffjax.studies.rankings import Ranking, parse_key, write_ranking

SHUFFLED = tuple(KEYS[index] for index in np.random.default_rng(5).permutation(len(KEYS)))
"""The channels of the small network in the order of the tests' ranking."""

slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@functools.cache
def network(name: str) -> Model:
    """A small network; `classifier` has 1000 outputs, `sure` finds all images fake, `unsure` none. `b0` is large."""
    if name == "b0":
        return cases.B0_SAME.random_model()
    outputs = 1000 if name == "classifier" else 1
    variables = cases.random_variables(SmallNet(outputs=outputs), seed=0)
    params = dict(variables["params"])
    match name:
        case "nan":  # at both ends: XLA's max(NaN, 0) may be 0 on CPUs
            params |= {
                layer: jax.tree.map(lambda a: a.at[..., 0].set(jnp.nan), params[layer]) for layer in ("stem", "out")
            }
        case "sure" | "unsure":
            params["out"] = {**params["out"], "bias": jnp.full(1, 9.0 if name == "sure" else -9.0)}
        case "decisive":  # the logit is channel 5 of head, and nothing else
            params["out"] = {"kernel": jnp.zeros((8, 1)).at[5].set(1), "bias": jnp.full(1, -3.0)}
        case "asleep":  # channel 2 of head is never above 0
            weights = params["head"]
            params["head"] = {"kernel": weights["kernel"].at[..., 2].set(0), "bias": weights["bias"].at[2].set(-1)}
    return Model(SmallNet(outputs=outputs), {**variables, "params": params}, cases.B0_SAME.card(num_outputs=outputs))


@contextlib.contextmanager
def networks_by_name() -> Iterator[None]:
    """Every checkpoint holds the small network of its name."""
    with mock.patch.object(checkpoint, "load", lambda path: network(path.name)):
        yield


def make_images(folder: Path, generators=("biggan", "progan"), labels=("0_real", "1_fake"), count: int = 2) -> Path:
    """Images of each label and generator, all different."""
    names = [f"{generator}/{label}/{i}" for generator in generators for label in labels for i in range(count)]
    for seed, name in enumerate(names):
        save_image(folder / f"{name}.png", seed)
    return folder


def sort_by_decision(folder: Path, unsorted: Path, generators: tuple[str, str], count: int) -> Path:
    """`count` images of each label and generator, which the decisive network tells apart, and by no tie."""
    make_images(unsorted, labels=("1_fake",), count=2 * count)
    names = paths_of(unsorted)
    logits = np.asarray(network("decisive")(inputs(unsorted, names)))[:, 0]
    assert len(set(logits)) == 4 * count
    for place, index in enumerate(np.argsort(logits)):
        label = ("0_real", "1_fake")[place >= 2 * count]
        target = folder / generators[place % 2] / label / f"{place:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(unsorted / names[index], target)
    return folder


def make_ranking(path: Path, keys=SHUFFLED) -> Path:
    """A ranking of these channels."""
    write_ranking(path, Ranking(tuple(map(parse_key, keys)), np.linspace(0.5, 0.01, len(keys))))
    return path


def damage(folder: Path, name: str = "biggan/1_fake/0.png", length: int = 300) -> None:
    """Cut an image off, behind its header (300) or in it (20)."""
    (folder / name).write_bytes((folder / name).read_bytes()[:length])


def paths_of(folder: Path, pattern: str = "**/*.png") -> list[str]:
    """The images below a folder in the order in which studies take them."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))


def pixels(folder: Path, names) -> np.ndarray:
    """Images as uint8."""
    return np.stack([decode(folder / name) for name in names])


def inputs(folder: Path, names) -> jax.Array:
    """Images as the network sees them."""
    return jnp.asarray(normalize(pixels(folder, names), cases.B0_SAME.card().normalization))


def read(path: Path) -> list[dict]:
    """The rows of a table."""
    table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    return table.to_pylist()


def columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table of numbers and words."""
    table: pa.Table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


class StopAfter:
    """Stands in for `stream`: raises after some batches."""

    def __init__(self, batches: int, error: BaseException) -> None:
        self.left, self.error, self.original = batches, error, tffjax.pipeline.streaming.stream

    def __call__(self, *arguments, **options):
        for found in self.original(*arguments, **options):
            if self.left == 0:
                raise self.error
            self.left -= 1
            yield found


def interrupt(batches: int, *arguments) -> None:
    """A run that ctrl-C ends after some batches, counted over all passes over the images."""
    with mock.patch.object(tffjax.pipeline.streaming, "stream", StopAfter(batches, KeyboardInterrupt())):
        assert "interrupted; go on with: tffjax" in refused(*arguments)


def interrupt_at(where: str, *arguments) -> None:
    """A run that ctrl-C ends where a function of this name is first called."""
    with mock.patch(where, side_effect=KeyboardInterrupt):
        assert "interrupted; go on with: tffjax" in refused(*arguments)


@contextlib.contextmanager
def counted_batches() -> Iterator[StopAfter]:
    """Counts the batches: 1000 - `left` of them went through."""
    counter = StopAfter(1000, KeyboardInterrupt())
    with mock.patch.object(tffjax.pipeline.streaming, "stream", counter):
        yield counter


def files_of(run: Path) -> dict[str, bytes]:
    """All of a run but the log, which has the time."""
    paths = (path for path in run.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(paths)}


def assert_same_files(run: Path, whole: Path) -> None:
    """Two runs are the same byte for byte."""
    ours, expected = files_of(run), files_of(whole)
    assert ours.keys() == expected.keys()
    assert [name for name in ours if ours[name] != expected[name]] == []
