"""The texts beside the detector of the demonstration: credits and model card."""

from collections.abc import Sequence
from typing import Any

import demo_power
from demo_data import PHOTOGRAPHS, Photograph
from demo_decoders import KINDS, SKIP, TRAINED_ON

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

An EfficientNet-B0 with one logit (a high one means fake), trained to tell crops of photographs from the same crops
redrawn by a small convolutional autoencoder, whose decoder up-samples in one way ({seen}). The fakes of three other
decoders ({unseen}) it has never seen. It exists to show what tffjax does, on any machine and offline.
**It is no detector of real forgeries**, see the last table.

Photographs are split before they are cropped: {train} crops of {train_photographs} photographs for training,
{validation} of {validation_photographs} for validation, {test} of {test_photographs} held out (so few that crops are
far from independent; one is a star field, one a retina), 128x128 pixels, each also redrawn. Real and fake have the same
history: shrunk, cut, rounded to 8 bits, saved as PNG; the fakes pass the autoencoder in between. Gray photographs are
left out. In the last part of the training, there alone, photographs are blurred and compressed more than fakes: a
detector that is trained without this takes an image for a fake where fine detail is missing, rather than where there
are traces of the decoder. The detector's kernels are rounded to float16. `images/` has held-out crops of photographs in
the public domain or under CC0, and what each decoder made of them.

**Color is the cue by design.** Decoders redraw luma and chroma apart. Luma is for {skip:.0%} the photograph's own (a
skip connection), chroma comes from a code at an eighth of the image's size and is up-sampled three times. So most of
the traces are in chroma, and little is left of them in a grayscale version. What the color study finds here is a
positive control of the method, no evidence about generators of the real world. And it is a narrow detector: what it
learned carries over to another decoder where that leaves similar traces, and not to every one (next table).

## Held-out photographs

Accuracies in percent, at 0.5 and at the threshold calibrated on the same images.

{held_out}

The same images in grayscale, photographs and fakes alike; thresholds are calibrated anew.

{grayscale}

{other}## What gives the label away without a detector

Accuracy in percent of a logistic regression on a few numbers of each held-out image, on photographs that it was not
fitted to; 50 is chance. `luma grid` and `chroma grid`, steps between pixels that repeat every 4 or 8 pixels, are the
decoders' own traces and no flaw of the data: they say how plain the traces are. `mean color`, `saturation` and `fine
chroma` say that color as such gives little away. Last column: median PSNR of the redrawn crops, in dB.

{trivial}

## What the color study can find in so many images

Each generator has {shipped} fakes. The shift between two samples of n normal numbers that Mood's median test finds at
0.05 in {power:.0%} of all cases, in standard deviations of the activations over images (`scripts/demo_power.py`):

{shifts}

A channel whose maximal activation moves by less than that may well respond to color and not be counted. The adjusted p
asks for more.

## Generators of the real world

CycleGAN, pix2pix and StyleGAN2 with their real counterparts, 256x256 pixels, lossless.

{real_world}

## How it was made

`scripts/train_demo_detector.py`, {options}. On {machine}, which other work kept busy, it took: {seconds}. The
autoencoders' weights are in `scripts/decoders/`; with `--decoders` the script takes them in place of training.
{started}"""


_STARTED = """
Training started from an earlier detector (`--init`), not from random weights: the same network, trained from scratch
for 3800 steps on fakes of the same four ways of up-sampling, whose decoders redrew R, G and B together, so that their
traces were in luma. It is in the history of this repository. Its stem was turned first: where it saw R, G and B it then
saw mixtures of Cb and Cr with a fifth of luma (`turned` in the script). That channels respond to color is therefore
owed to this start as well as to the data. What was tried before, on the same fakes: from random weights, 54 % of the
training crops were right after 600 steps, and the run was given up. From the same detector with its stem as it was, AP
on validation crops was 89 % after 600 steps, and grayscale took 11 to 21 points of AP from every decoder, but Mood's
test called only 0 to 2 of the top 27 channels color-conditional (48 images, raw p; none with adjusted p).
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
        skip=SKIP,
        started=_STARTED if figures["started"] else "",
        grayscale=_scores(figures["grayscale"]),
        shipped=figures["shipped"],
        power=demo_power.POWER,
        shifts=_table(
            ("images", *map(str, demo_power.NUMBERS)),
            [("shift", *(f"{demo_power.smallest(n):.2f}" for n in demo_power.NUMBERS))],
        ),
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
