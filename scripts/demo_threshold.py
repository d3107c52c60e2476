"""From which probability on the demonstration counts an image of its generator as found.

    python scripts/demo_threshold.py --photographs photographs [--detector DETECTOR]

The detector never saw images of a GAN, nor photographs at the generator's scale. The threshold is the probability that
`SHARE` of the crops of the validation and test photographs together reach, halved to the 64 pixels of the generator.
These are few photographs, so the share of each split is printed, too.
"""

import argparse
from pathlib import Path

import demo_data
import jax.numpy as jnp
import numpy as np
import skimage
from jaxtyping import Float, UInt8
from scipy.special import expit
from sklearn.metrics import roc_auc_score

import tffjax
from tffjax.compile.logits import logits_of
from tffjax.embedded import EMBEDDED
from tffjax.nn.normalization import normalized

SHARE = 0.1
IMAGES = 500


def halved(crops: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n {demo_data.CROP//2} {demo_data.CROP//2} 3"]:
    """The crops without their margins, squares of 2x2 pixels averaged."""
    images = demo_data.cut_margin(crops).astype(np.float32)
    n, h, w, _ = images.shape
    return np.rint(images.reshape(n, h // 2, 2, w // 2, 2, 3).mean((2, 4))).astype(np.uint8)


def logits(model: tffjax.Model, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """The logits of images of any number."""
    parts = (images[at : at + 50] for at in range(0, len(images), 50))
    return np.concatenate([logits_of(model, normalized(jnp.asarray(p), model.card.normalization))[:, 0] for p in parts])


def main() -> None:
    options = parser().parse_args()
    model = tffjax.load(options.detector)
    found = demo_data.find_photographs([*options.photographs, Path(skimage.__file__).parent])
    real = {
        split: logits(model, halved(demo_data.make_crops(found, split, 0).images)) for split in ("validation", "test")
    }
    fake = logits(model, tffjax.generate(EMBEDDED.generator, seed=0, n=IMAGES)[1])
    threshold = np.quantile(np.concatenate(list(real.values())), 1 - SHARE)
    label = np.repeat([0, 1], [len(real["test"]), len(fake)])
    reached = ", ".join(f"{(found >= threshold).mean():.1%} of {split} crops" for split, found in real.items())
    print(
        f"threshold: p = {expit(threshold):.3f}, reached by {reached} and {(fake >= threshold).mean():.1%} of {IMAGES}"
    )
    print(f"median logit: {np.median(fake):.1f}, of {len(real['test'])} test crops {np.median(real['test']):.1f}; "
          f"AUC {roc_auc_score(label, np.concatenate([real['test'], fake])):.1%}")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True, help="folders with unpacked packages")
    parser.add_argument("--detector", type=Path, default=EMBEDDED.detector)
    return parser


if __name__ == "__main__":
    main()
