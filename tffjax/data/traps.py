"""Traps: what tells real from fake although it has nothing to do with how images are generated.

The classic: real images are JPEG and fake ones PNG. A detector, a ranking of channels or an accuracy may then be about
file formats. Each trap is measured by a small decision tree that sees nothing else.
"""

import collections
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tffjax.data.facts import Facts, header_facts
from tffjax.data.image_file import ImageFile
from tffjax.data.preprocessing import UnreadableImage

LIMIT = 0.65
SIGMAS = 3.0
"""An accuracy counts if it is above the limit, and above one half by so many standard errors."""

FOLDS = 5
DEPTH = 3
WARNING_SAMPLE = 1000


class Trap(NamedTuple):
    """What one fact tells about the labels of some images.

    Attributes:
        name: of the fact, see `TRAPS`.
        accuracy: mean over both labels of the share that the tree gets right, cross-validated; NaN where a label has
            fewer than two images with this fact.
        standard_error: of an accuracy of one half.
        gives_away: whether it is above the limit, and surely so.
        real, fake: what the values are, for people.
    """

    name: str
    accuracy: float
    standard_error: float
    gives_away: bool
    real: str
    fake: str


class _Fact(NamedTuple):
    """How a trap reads facts: values, numbers or words, of those images that have it."""

    values: Callable[[Facts], tuple[float, ...] | str]
    applies: Callable[[Facts], bool] = lambda facts: True


def _is_jpeg(facts: Facts) -> bool:
    return facts.format == "JPEG"


HEADER_TRAPS = {
    "format": _Fact(lambda facts: facts.format),
    "size": _Fact(lambda facts: (float(facts.height * facts.width),)),
    "aspect": _Fact(lambda facts: (facts.width / facts.height,)),
    "JPEG quality": _Fact(lambda facts: (facts.quality,), _is_jpeg),
    "JPEG sampling": _Fact(lambda facts: facts.sampling, _is_jpeg),
    "metadata": _Fact(lambda facts: facts.metadata or "none"),
    "bit depth": _Fact(lambda facts: facts.depth),
}
PIXEL_TRAPS = {
    "JPEG grid": _Fact(lambda facts: facts.grid or (), lambda facts: facts.grid is not None),
    "mean color": _Fact(lambda facts: facts.color or (), lambda facts: facts.color is not None),
}
TRAPS = HEADER_TRAPS | PIXEL_TRAPS

_ALONE = ("format", "size", "JPEG quality")
"""What a study warns of."""


def measure(name: str, facts: Sequence[Facts], fake: Bool[np.ndarray, " n"], limit: float = LIMIT) -> Trap:
    """What one fact tells about the labels of some images.

    Args:
        name: in `TRAPS`.
        facts: of the images.
        fake: their labels.
        limit: accuracies up to this are none of a study's business.
    """
    fact = TRAPS[name]
    chosen = [(fact.values(one), label) for one, label in zip(facts, fake.tolist(), strict=True) if fact.applies(one)]
    labels = np.array([label for _, label in chosen], bool)
    values = [value for value, _ in chosen]
    counts = [int((~labels).sum()), int(labels.sum())]
    said = [_in_words([value for value, label in chosen if label is wanted]) for wanted in (False, True)]
    if min(counts) < 2:
        return Trap(name, math.nan, math.nan, False, *said)
    accuracy = tree_accuracy(_columns(values), labels) if len(set(values)) > 1 else 0.5
    error = math.sqrt(sum(0.25 / count for count in counts)) / 2
    return Trap(name, accuracy, error, accuracy > limit and accuracy - 0.5 > SIGMAS * error, *said)


def tree_accuracy(features: Float[np.ndarray, "n k"], labels: Bool[np.ndarray, " n"]) -> float:
    """Balanced accuracy of a decision tree of depth `DEPTH`, cross-validated in `FOLDS` folds; one half is chance."""
    from sklearn.metrics import balanced_accuracy_score  # here, for it takes a second that most commands do without
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    folds = min(FOLDS, int(min(labels.sum(), (~labels).sum())))
    tree = DecisionTreeClassifier(max_depth=DEPTH, class_weight="balanced", random_state=0)
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(balanced_accuracy_score(labels, cross_val_predict(tree, features, labels, cv=split)))


def warning_of(files: Sequence[ImageFile]) -> str | None:
    """One line if format, size or JPEG quality alone tells the labels apart, over all images or within a generator.

    Looks at the headers of `WARNING_SAMPLE` images at most, spread over the list. Unlabeled and unreadable images and
    stored pixels do not count.
    """
    labeled = [file for file in files if file.label is not None and not (file.stored and file.stored.pixels)]
    every = max(1, math.ceil(len(labeled) / WARNING_SAMPLE))
    sample = labeled[::every]
    if len({file.label for file in sample}) < 2:
        return None
    facts = facts_of(sample, header_facts)
    found = [(file, one) for file, one in zip(sample, facts, strict=True) if one is not None]
    groups = by_generator([file for file, _ in found])
    for name in _ALONE:
        for generator, members in groups.items():
            trap = measure(name, [found[i][1] for i in members], np.array([found[i][0].label == 1 for i in members]))
            if trap.gives_away:
                where = f" of {generator}" if generator else ""
                return (f"{trap.name} alone tells real from fake images{where}: {trap.accuracy:.0%} right "
                        f"(real: {trap.real}; fake: {trap.fake}); results may be about files, not about generators; "
                        "see tffjax audit")  # fmt: skip
    return None


def facts_of(
    files: Sequence[ImageFile],
    read: Callable[[ImageFile], Facts],
    threads: int = 8,
    advance: Callable[[int], object] = int,
) -> list[Facts | None]:
    """The facts of images in their order; None for the unreadable ones."""

    def one(file: ImageFile) -> Facts | None:
        try:
            return read(file)
        except UnreadableImage:
            return None

    facts = []
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(one, files):
            facts.append(found)
            advance(1)
    return facts


def by_generator(files: Sequence[ImageFile]) -> dict[str, list[int]]:
    """Generator -> indices of its images; "" is all images. Real images without a generator belong to each."""
    shared = [i for i, file in enumerate(files) if not file.generator]
    names = dict.fromkeys(file.generator for file in files if file.generator)
    own = {name: [i for i, file in enumerate(files) if file.generator == name] for name in names}
    return {"": list(range(len(files)))} | (
        {name: sorted([*members, *shared]) for name, members in own.items()} if len(names) > 1 else {}
    )


def _columns(values: Sequence[tuple[float, ...] | str]) -> Float[np.ndarray, "n k"]:
    """Numbers as they are, words as a column each."""
    if not isinstance(values[0], str):
        return np.array(values, np.float64)
    words = sorted(set(values))
    return np.array([[value == word for word in words] for value in values], np.float64)


def _in_words(values: Sequence[tuple[float, ...] | str]) -> str:
    if not values:
        return "none"
    if isinstance(values[0], str):
        common = collections.Counter(values).most_common(2)
        return ", ".join(f"{word} {count / len(values):.0%}" for word, count in common)
    columns = np.array(values, np.float64).T
    return ", ".join(_spread(column) for column in columns)


def _spread(column: Float[np.ndarray, " n"]) -> str:
    low, middle, high = (
        f"{value:.0f}" if value == round(value) else f"{value:.3g}" for value in np.quantile(column, (0.1, 0.5, 0.9))
    )
    return middle if low == high else f"{middle} ({low} to {high})"
