"""Where a user of the released detectors begins: what to fetch, how it is laid out, and whether it is there."""

from collections.abc import Sequence
from pathlib import Path

from tffjax.data import ImageFile, is_there
from tffjax.errors import InputError
from tffjax.nn import network_of
from tffjax.nn.card import Card
from tffjax.results.generators import PAPER, plain_name

CODE = "https://github.com/sutd-visual-computing-group/transferable-forensic-features"
DATASET = "https://github.com/peterwang512/CNNDetection"
RELEASED = {"resnet50": "resnet50/blur_jpg_prob0.5.pth", "efficientnet_b0": "efb0/blur_jpg_prob0.5.pth"}
"""Architecture -> the released weights, below `weights/` as the released code has them."""

RANKINGS = {
    name: f"fmap_relevances/{file.split('/')[0]}/progan_val_0.5/progan_val-fake.csv" for name, file in RELEASED.items()
}
"""Architecture -> the released FF-RS ranking, below a clone of the released code; not of the color-robust detectors."""

VALIDATION = "progan_val"

_FILES = (
    f"the paper's detectors are {' and '.join(RELEASED.values())} of the pre-trained models that {CODE} links to; "
    f"make a checkpoint with: tffjax convert {RELEASED['resnet50']} detector --published ResNet-50"
)
_LAYOUT = (
    f"the paper's images are ForenSynths, which {DATASET} links to: the test set with folders "
    f"{', '.join(name.lower() for name in PAPER)}, laid out as GENERATOR/[CLASS/]{{0_real,1_fake}}/*.png, "
    f"and the validation set of ProGAN ({VALIDATION}), on which channels are ranked (--rank-on)"
)


def check_weights(path: Path) -> None:
    """Say what to fetch where there is no checkpoint.

    Raises:
        InputError: there is nothing at `path`, or a file.
    """
    if path.is_file():
        raise InputError(
            f"{path} is a file; make a checkpoint of it first: tffjax convert {path} detector, and where it is one of "
            "the paper's detectors with --published NAME"
        )
    if not path.exists():
        raise InputError(f"{path}: there is no such checkpoint; {_FILES}")


def check_data(paths: Sequence[Path]) -> None:
    """Say how ForenSynths is laid out where images are missing.

    Raises:
        InputError: there is nothing at one of the paths.
    """
    for path in paths:
        if not is_there(path):
            raise InputError(f"{path}: there are no such images; {_LAYOUT}")


def recognized(card: Card, named: str | None) -> tuple[str | None, str]:
    """The detector of the paper that this is known to be, by its card or its user, and a line on how that is known.

    Keys and graph alone do not tell the released weights from others; where they fit, the line says what to do.

    Raises:
        InputError: the detector that is named is another network.
    """
    record = network_of(card)
    if named and record.published != named.removeprefix("CR-"):
        raise InputError(f"--published {named}: this is {card.architecture}, so another network")
    if card.published or named:
        how = "the card says so" if card.published and not named else "--published says so"
        return named or card.published, f"{named or card.published} of the paper ({how})"
    if record.published and card.num_outputs == 1 and card.source_sha256 and card.graph == record.conventions[0]:
        name = record.published
        return None, (
            f"keys and graph are those of the paper's {name}, which does not make it that: if the weights are the "
            f"released {RELEASED[card.architecture]}, say --published {name} (CR-{name}: the color-robust one), and "
            "the paper's numbers stand beside"
        )
    return (
        None,
        f"{card.source or card.architecture}: none of the paper's detectors, so its numbers do not stand beside",
    )


def missing_generators(files: Sequence[ImageFile]) -> tuple[str, ...]:
    """The paper's generators of which there are no images."""
    there = {plain_name(file.generator) for file in files}
    return tuple(name for name in PAPER if plain_name(name) not in there)


def released_ranking(card: Card, code: Path | None) -> Path | None:
    """The released FF-RS ranking of a network of this kind, in a clone of the released code; None without one.

    Raises:
        InputError: `code` is no such clone, or has no ranking of such a network.
    """
    if code is None:
        return None
    if card.architecture not in RANKINGS:
        raise InputError(f"the released rankings are of {', '.join(RANKINGS)}, not of {card.architecture}")
    path = code / RANKINGS[card.architecture]
    if not path.is_file():
        raise InputError(f"{code}: no {RANKINGS[card.architecture]} in it; --released is a clone of {CODE}")
    return path
