"""The texts beside the detector of the demonstration: credits and model card."""

from collections.abc import Sequence
from typing import Any

from demo_data import PHOTOGRAPHS, Photograph
from demo_decoders import KINDS, TRAINED_ON

_LINKS = {
    "GPL-2+": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "LGPL-3": "https://www.gnu.org/licenses/lgpl-3.0.html",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}

_CREDITS = """\
# Photographs behind the demonstration detector

From Debian's `mate-backgrounds` 1.26.0 (`mate/`), `plasma-workspace-wallpapers` 5.27.5 (`wallpapers/`) and the wheel of
scikit-image 0.26 (`skimage/`). Authors and licenses are those that the packages' copyright files, the wallpapers' own
metadata and scikit-image's documentation state. The photographs were shrunk, cropped and redrawn. The sample images
shipped with the detector come only from photographs in the public domain or under CC0; the others were used for
training, validation and scoring, and what was redrawn was redrawn by decoders trained on them. What this project
made (weights, redrawing) has the license of tffjax; nothing here changes the licenses of the photographs.

{photographs}
"""

_MODEL_CARD = """\
# The demonstration detector

An EfficientNet-B0 with one logit (a high one means fake), trained from scratch to tell crops of photographs from the
same crops redrawn by a small convolutional autoencoder, whose decoder up-samples in one way ({seen}). The fakes of
three other decoders ({unseen}) it has never seen. It exists to show what tffjax does, on any machine and offline.
**It is no detector of real forgeries**, see the last table.

Photographs are split before they are cropped: {train} crops of {train_photographs} photographs for training,
{validation} of {validation_photographs} for validation, {test} of {test_photographs} held out (so few that crops are
far from independent; one is a star field, one a retina), 128x128 pixels, each also redrawn. Real and fake have the same
history: shrunk, cut, rounded to 8 bits, saved as PNG; the fakes pass the autoencoder in between. Gray photographs are
left out. In the last part of the training, there alone, photographs are blurred and compressed more than fakes: a
detector that is trained without this takes an image for a fake where fine detail is missing, rather than where there
are traces of the decoder. The detector's kernels are rounded to float16. `images/` has held-out crops of photographs in
the public domain or under CC0, and what each decoder made of them.

## Held-out photographs

Accuracies in percent, at 0.5 and at the threshold calibrated on the same images.

{held_out}

{other}## What gives the label away without a detector

Accuracy in percent of a logistic regression on a few numbers of each held-out image, on photographs that it was not
fitted to; 50 is chance. `decoder grid`, steps between pixels that repeat every 4 pixels, is the decoders' own trace
and no flaw of the data: it says how plain the trace is. Last column: median PSNR of the redrawn crops, in dB.

{trivial}

## Generators of the real world

CycleGAN, pix2pix and StyleGAN2 with their real counterparts, 256x256 pixels, lossless.

{real_world}

## How it was made

`scripts/train_demo_detector.py`, {options}. On {machine}, which other work kept busy, it took: {seconds}.
"""


_OTHER = """\
The same with seed {seed}, that is with other crops, decoders, first weights and batches; how far the two tables are
apart is how far a run of the script may be from the shipped detector.

{held_out}

"""


def credits(photographs: Sequence[Photograph]) -> str:
    """CREDITS.md: every photograph with author, license and use."""
    head = ("photograph", "author", "license", "split")
    rows = [(photo.path, photo.author, _linked(photo.license), photo.split) for photo in photographs]
    return _CREDITS.format(photographs=_table(head, rows))


def model_card(figures: dict[str, Any], other: dict[str, Any] | None = None) -> str:
    """MODEL_CARD.md from what `train_demo_detector.py` measured, and beside it what it measured with another seed."""
    trivial = figures["trivial"]
    names = list(next(iter(trivial.values())))
    return _MODEL_CARD.format(
        **figures["crops"],
        **{f"{split}_photographs": sum(photo.split == split for photo in PHOTOGRAPHS) for split in figures["crops"]},
        seen=TRAINED_ON,
        unseen=", ".join(kind for kind in KINDS if kind != TRAINED_ON),
        held_out=_scores(figures["held_out"]),
        other=_OTHER.format(seed=other["options"]["seed"], held_out=_scores(other["held_out"])) if other else "",
        trivial=_table(
            ("decoder", *names),
            [
                (kind, *(f"{row[name]:.1f}" if name == "PSNR" else f"{100 * row[name]:.0f}" for name in names))
                for kind, row in trivial.items()
            ],
        ),
        real_world=_scores(figures["real_world"]) if figures["real_world"] else "Not measured.",
        options=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures["options"].items()),
        machine=figures["machine"],
        seconds=", ".join(f"{what} {_duration(value)}" for what, value in figures["seconds"].items()),
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _linked(license: str) -> str:
    return f"[{license}]({_LINKS[license]})" if license in _LINKS else license


def _scores(scores: dict[str, Any]) -> str:
    head = ("generator", "AP", "real", "fake", "real calibrated", "fake calibrated", "images")
    keys = ("ap", "real", "fake", "real_calibrated", "fake_calibrated")
    return _table(
        head,
        [
            (_role(name), *(f"{100 * row[key]:.1f}" for key in keys), f"{row['num_real']} + {row['num_fake']}")
            for name, row in scores.items()
        ],
    )


def _role(generator: str) -> str:
    if generator not in KINDS:
        return generator
    return f"{generator} ({'trained on' if generator == TRAINED_ON else 'unseen'})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
