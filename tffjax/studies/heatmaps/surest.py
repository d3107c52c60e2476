"""The fakes of each generator of which a detector is surest, from its predictions."""

from collections.abc import Sequence
from pathlib import Path

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.files import RECORD
from tffjax.nn.card import Card
from tffjax.pipeline.reporter import Reporter
from tffjax.results.record import identity_of
from tffjax.results.words import number_of
from tffjax.studies.predictions import read_predictions


def check_network(predictions: Path, card: Card) -> None:
    """Raise an InputError if a table is that of a run of `tffjax predict` with another network."""
    folder = predictions.parent
    if not (folder / RECORD).is_file():
        return
    theirs = identity_of(folder, "predict")["weights"].get("weights_sha256")
    if theirs and card.weights_sha256 and theirs != card.weights_sha256:
        raise InputError(f"{predictions}: of another network; give the predictions of this one")


def surest_fakes(
    files: Sequence[ImageFile], names: Sequence[str], predictions: Path, each: int, reporter: Reporter
) -> tuple[ImageFile, ...]:
    """At most `each` fakes of every generator, those with the largest score; generators in their order.

    Args:
        files: images, of which those without the label fake do not count.
        names: of them in the predictions (`tffjax.data.relative_names`).
        predictions: predictions.csv of `tffjax predict` on these images.
        each: how many of a generator.
        reporter: is told of generators of which the detector finds none.

    Raises:
        InputError: there are no fakes, or the predictions are not of a detector, or lack them.
    """
    table = read_predictions(predictions)
    if not {"path", "score"} <= set(table.column_names):
        raise InputError(f"{predictions}: not predictions of a detector; it needs the columns path and score")
    scores = dict(zip(table["path"].to_pylist(), table["score"].to_pylist(), strict=True))
    of_generator: dict[str, list[tuple[float, ImageFile]]] = {}
    for file, name in zip(files, names, strict=True):
        if file.label == 1 and name in scores:
            of_generator.setdefault(file.generator, []).append((scores[name], file))
    if not of_generator:
        fakes = [name for file, name in zip(files, names, strict=True) if file.label == 1]
        if not fakes:
            raise InputError("no image has the label fake, among which the surest ones are looked for")
        raise InputError(f"{predictions}: of other images: it has none of the fakes, such as {fakes[0]}")
    chosen = []
    for generator, found in of_generator.items():
        best = sorted(found, key=lambda pair: -pair[0])[:each]  # stable: of equal scores the first in order
        if best[0][0] <= 0:
            reporter.warn(
                f"{generator or 'images'}: the detector takes none of its {number_of(len(found), 'fake')} for fake"
            )
        chosen += [file for _, file in best]
    return tuple(chosen)
