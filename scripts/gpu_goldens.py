"""Make the small folder of golden numbers that `scripts/gpu_visit.py` compares with, inside the checkout.

    python scripts/gpu_goldens.py GOLDEN_FOLDER                          into gpu-goldens/, which git ignores
    python scripts/gpu_goldens.py GOLDEN_FOLDER --published FOLDER       with the published rankings' first channels

GOLDEN_FOLDER holds the outputs of the code released with the paper (four photographs, two networks). What is taken over
is what they give at 224 pixels in float64, with the recipe and the calibration of the weights in place of the weights.
The numbers at 64 pixels are tffjax's own in float64 on this machine's CPU.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from gpu.networks import NETWORKS, golden_model

from tffjax.data.preprocessing import center_crop, normalize
from tffjax.lrp.explain import relevance
from tffjax.nn import canonize
from tffjax.nn.card import Normalization

LISTS = {"resnet50": 114, "efb0": 27}
"""How many channels of the published rankings the paper calls transferable."""


def released_numbers(folder: Path) -> dict[str, np.ndarray]:
    """What is compared with, of one network at 224 pixels; maps are sums over color."""
    found: dict[str, np.ndarray] = {}
    with np.load(folder / "logits.npz") as archive:
        found |= {"logits": archive["orig_f64_224"], "folded_logits": archive["canon_f64_224"]}
    with np.load(folder / "relevance.npz") as archive:
        found["maps"] = np.concatenate([archive["R_beta0_f64"].sum(axis=1), archive["R_beta0_rgbsum_f64"]])
    with np.load(folder / "channels_224.npz") as archive:
        found["ffrs"] = archive["ffrs_fx_f64"]
    with np.load(folder / "dropout.npz") as archive:
        found["dropout_keys"] = archive["top114_keys"]
        found["dropout"] = np.stack([archive[f"top{k}_f64"] for k in (5, 27, 114)], axis=1)
    with np.load(folder / "maxact.npz") as archive:
        found |= {"sites": archive["layer"], "channels": archive["channel"], "maxima": archive["rgb224_f64"]}
    with np.load(folder / "lrpmax.npz") as archive:
        names = [f"rgbsum_224_f64__{pair}_0" for pair in range(len(archive["layer"]))]
        found |= {"lrpmax_boxes": archive["box_224_f64"][:, 0], "lrpmax_maps": np.stack([archive[n] for n in names])}
    return found


def own_numbers(name: str, folder: Path, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The same kinds of numbers for small images, by tffjax in float64."""
    with jax.enable_x64(True):
        model = canonize(golden_model(name, folder).astype(jnp.float64), "reset")
        images = jnp.asarray(normalize(pixels, Normalization()), jnp.float64)
        found = relevance(model, images, sites=True)
        total = {site: sums.sum(axis=(1, 2)) for site, sums in found.sites.items()}
        shares = [(sums[:, 0] / total[site][:, None]).mean(axis=0) for site, sums in found.sites.items()]
        return {
            "small_folded_logits": np.asarray(found.logits)[:, 0],
            "small_maps": np.asarray(found.input.sum(axis=3)).astype(np.float32),
            "small_ffrs": np.asarray(jnp.concatenate(shares)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path)
    parser.add_argument("--published", type=Path, help="folder with omega-NETWORK-progan_val-fake.csv")
    parser.add_argument("--out", type=Path, default=Path("gpu-goldens"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(options.golden / "make_weights.py", options.out / "make_weights.py")
    with np.load(options.golden / "images.npz") as archive:
        images = {f"u8_{size}": np.stack([center_crop(image, size) for image in archive["u8"]]) for size in (224, 64)}
    np.savez_compressed(options.out / "images.npz", **images)
    lists = {}
    for name, network in NETWORKS.items():
        calibration = f"calib_{name}_{network.seed}.npz"
        shutil.copyfile(options.golden / calibration, options.out / calibration)
        numbers = released_numbers(options.golden / name) | own_numbers(name, options.out, images["u8_64"])
        np.savez_compressed(options.out / f"{name}.npz", **numbers)
        if options.published:
            with (options.published / f"omega-{name}-progan_val-fake.csv").open() as file:
                lists[name] = [row["key"] for row in csv.DictReader(file)][: LISTS[name]]
    (options.out / "lists.json").write_text(json.dumps(lists))
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
