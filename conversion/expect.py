"""Which network a file is, by the outputs that the user's own network gave: all variants that its keys allow are tried.

A variant is a graph, a normalization and a way to resize. Cheap ones come first: the known graphs with all
normalizations and sizes, on one image; what comes near is tried on all images; and where that is not enough, all other
graphs. One that agrees is believed only if no other graph does: images of a size at which graphs are equal prove
nothing between them.
"""

import csv
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.special import expit, softmax
from tffjax.conversion import graphs, twin
from tffjax.conversion.variables import Facts

from tffjax.data.preprocessing import Transform, decode, normalize
from tffjax.errors import InputError
from tffjax.nn.card import NORMALIZATIONS
from tffjax.nn.graph_options import GraphOptions

TOLERANCE = 1e-3
"""Largest difference of an output that agrees, relative to the largest expected output where that is above 1."""

TRANSFORMS = (
    Transform(),
    Transform(crop=224),
    Transform(256, 224),
    Transform(224, 224),
    Transform((224, 224)),
    Transform((256, 256)),
    Transform((299, 299)),
    Transform(256),
)
_NEAR = 0.05
_FILE = ("file", "filename", "path", "image", "img", "name")


class Expected(NamedTuple):
    """Outputs of the user's network by the file names of images, (n, k), and what the columns are called."""

    files: tuple[str, ...]
    values: Float64[np.ndarray, "n k"]
    columns: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tried:
    """A variant, and how far its outputs are from the expected ones.

    Attributes:
        graph, normalization, transform: the variant.
        reading: what the columns are: `logit`, `probability`, or `logits` and `probabilities` of all outputs.
        error: the largest difference over all images.
        scale: the largest expected output, at least 1.
    """

    graph: GraphOptions
    normalization: str
    transform: Transform
    reading: str
    error: float
    scale: float

    @property
    def agrees(self) -> bool:
        """Whether it is the user's network on these images."""
        return self.error <= TOLERANCE * self.scale

    def __str__(self) -> str:
        return f"{self.graph}; {self.normalization}; {size_text(self.transform)}; read as {self.reading}"


@dataclasses.dataclass(frozen=True)
class Found:
    """The best variants, best first, and those graphs that agree as well as the best one."""

    best: tuple[Tried, ...]
    equal: tuple[Tried, ...] = ()

    @property
    def agreed(self) -> Tried | None:
        """The variant that agrees; None if none does."""
        return self.best[0] if self.best[0].agrees else None


def read_expected(path: Path) -> Expected:
    """Read a table with one column of file names and one or more of outputs, CSV with a header.

    Raises:
        InputError: no such file, no such columns, or values that are not numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    if not rows:
        raise InputError(f"{path} has no rows; it needs a header, a column of file names and one of outputs")
    names = [name for name in rows[0] if name]
    named = [name for name in names if name.strip().lower() in _FILE]
    words = [name for name in names if not all(_is_number(row[name]) for row in rows)]
    column = named[0] if named else words[0] if len(words) == 1 else None
    values = [name for name in names if name != column and name not in words]
    if column is None or not values:
        raise InputError(
            f"{path} needs a column of file names, called {' or '.join(_FILE[:3])}, and one or more of numbers; it has "
            f"{', '.join(names)}"
        )
    numbers = np.array([[float(row[name]) for name in values] for row in rows])
    if not np.isfinite(numbers).all():
        raise InputError(f"{path}: not all outputs are finite")
    return Expected(tuple(row[column] for row in rows), numbers, tuple(values))


def images_of(expected: Expected, folder: Path, most: int = 16) -> tuple[list[Path], Float64[np.ndarray, "n k"]]:
    """Paths of the images in a folder that the table names, and their outputs; at most so many, of different sizes.

    Raises:
        InputError: the folder has none of them, or a name stands for two.
    """
    by_name: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        by_name.setdefault(path.name, []).append(path)
    pairs = []
    for name, values in zip(expected.files, expected.values, strict=True):
        known = by_name.get(Path(name).name, [])
        exact = [path for path in known if path.as_posix().endswith("/" + name.lstrip("./"))]
        if len(exact or known) > 1:
            raise InputError(f"{name} stands for {len(known)} images in {folder}; give paths from there in the table")
        pairs += [(path, values) for path in exact or known]
    if not pairs:
        raise InputError(f"{folder} has none of the table's {len(expected.files)} images, such as {expected.files[0]}")
    chosen = pairs[:: -(-len(pairs) // most)]
    return [path for path, _ in chosen], np.array([values for _, values in chosen])


def search(
    variables: Mapping[str, Any],
    facts: Facts,
    paths: Sequence[Path],
    values: Float64[np.ndarray, "n k"],
    fake_output: int | None = None,
    only: GraphOptions | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Found:
    """Try the variants that a file allows.

    Args:
        variables, facts: as from `to_flax`, with one logit in place of two where `fake_output` says which is fake.
        paths: images.
        values: expected outputs of each.
        fake_output: of two outputs, the one that means fake.
        only: the graph, where it is known.
        say: told what goes on.
    """
    images, nets = [decode(path) for path in paths], _Nets(variables, facts.architecture)
    first = _smallest(images)
    known = [candidate.options for candidate in graphs.candidates(facts.architecture, facts.convention)]
    others = [graph for graph in graphs.variants(facts.architecture, facts.convention) if graph not in known]
    if only:
        known, others = [only], []
    ways = list(itertools.product(NORMALIZATIONS, _different(images)))
    tried: list[Tried] = []
    for some in (known, others):
        say(f"{len(some) * len(ways)} variants on one image")
        one = [
            nearest
            for graph in some
            for normalization, transform in ways
            if (nearest := nets.compare(graph, normalization, transform, [images[first]], values[[first]], fake_output))
        ]
        near = sorted((t for t in one if t.error <= _NEAR * t.scale), key=lambda t: t.error)[:24] or _best(one)
        say(f"{len(near)} of them on {len(images)} images")
        tried += [
            found
            for t in near
            if (found := nets.compare(t.graph, t.normalization, t.transform, images, values, fake_output))
        ]
        tried.sort(key=lambda t: t.error)
        if tried and tried[0].agrees:
            break
    if not tried:
        raise InputError("the table's columns are not outputs of this network: their number does not fit")
    best = tried[0]
    if not best.agrees:
        return Found(_best(tried))
    say("other graphs, whether they agree as well")
    rivals = (graph for graph in (*known, *others) if graph != best.graph)
    compared = (nets.compare(g, best.normalization, best.transform, images, values, fake_output) for g in rivals)
    equal = tuple(t for t in compared if t and t.agrees)
    return Found(_best(tried), equal)


class _Nets:
    """Runs the twin, in whatever graph; one network is kept at a time."""

    def __init__(self, variables: Mapping[str, Any], architecture: str) -> None:
        self._variables, self._architecture = variables, architecture
        self._graph: GraphOptions | None = None

    def compare(
        self,
        graph: GraphOptions,
        normalization: str,
        transform: Transform,
        images: Sequence[np.ndarray],
        values: Float64[np.ndarray, "n k"],
        fake_output: int | None,
    ) -> Tried | None:
        """How far this variant is from the expected outputs; None if their number does not fit."""
        if graph != self._graph:
            self._net, self._graph = twin.twin_from_variables(self._variables, self._architecture, graph), graph
        found = []
        for image in images:
            x = normalize(transform(image)[None], NORMALIZATIONS[normalization])
            with torch.no_grad():
                found.append(self._net(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()[0])
        readings = list(_readings(np.array(found, np.float64), values, fake_output))
        if not readings:
            return None
        reading, error = min(readings, key=lambda pair: pair[1])
        return Tried(graph, normalization, transform, reading, error, max(1.0, float(np.abs(values).max())))


def _readings(
    logits: Float[np.ndarray, "n o"], values: Float64[np.ndarray, "n k"], fake_output: int | None
) -> Iterator[tuple[str, float]]:
    """What the columns may be, and how far off they are then."""
    probable = values.min() >= 0 and values.max() <= 1
    if fake_output is not None and values.shape[1] == 2:
        values = values[:, [fake_output]] if probable else values[:, [fake_output]] - values[:, [1 - fake_output]]
    if values.shape[1] != logits.shape[1]:
        return
    many = logits.shape[1] > 1
    yield "logits" if many else "logit", _apart(logits, values)
    if probable:
        found = softmax(logits, axis=1) if many else expit(logits)
        yield "probabilities" if many else "probability", _apart(found, values)


def _apart(found: np.ndarray, values: np.ndarray) -> float:
    return float(np.nan_to_num(np.abs(found - values), nan=np.inf).max())


def _different(images: Sequence[np.ndarray]) -> list[Transform]:
    """The ways to resize that differ on these images."""
    seen: dict[bytes, Transform] = {}
    for transform in TRANSFORMS:
        seen.setdefault(b"".join(transform(image).tobytes() for image in images[:3]), transform)
    return list(seen.values())


def _smallest(images: Sequence[np.ndarray]) -> int:
    return min(range(len(images)), key=lambda i: images[i].size)


def _best(tried: Iterable[Tried], most: int = 5) -> tuple[Tried, ...]:
    return tuple(sorted(tried, key=lambda t: t.error)[:most])


def size_text(transform: Transform) -> str:
    """How images are resized, as options of the command line."""
    words = []
    if transform.resize is not None:
        size = transform.resize
        words.append(f"--resize {size if isinstance(size, int) else 'x'.join(map(str, size))}")
    if transform.crop is not None:
        words.append(f"--crop {transform.crop}")
    return " ".join(words) or "images at their own size"


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True
