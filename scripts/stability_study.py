"""How far rounding alone moves explanations, and what would help: the same images explained by several programs.

    python scripts/stability_study.py --weights detector.pth --data DATA --out study
    python scripts/stability_study.py --weights a.pth b.pth=caffe --data DATA --images 32 --out study

Each weights file may name its input normalization (`FILE=caffe`; by default ImageNet's). LRP (beta0) explains the
output that is largest in float64. The reference is float64. Beside it, float32: a batch, each image alone, images in
`vmap`, and two variants: residual sums and their shares in float64 (what float32 inputs allow), and max pools that
share relevance among inputs within 1e-5 of the largest (in float64 too: it is another definition). Writes stability.md.
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from precision_study import load, spread

from tffjax.compile.passes import Pass
from tffjax.data import find_images
from tffjax.data.preprocessing import Transform, decode, normalize
from tffjax.kernels.convolution import Geometry, pad, patches
from tffjax.lrp.composites import composite_of, rule
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepare
from tffjax.lrp.redistribution import for_kinds
from tffjax.lrp.rules import sum_epsilon
from tffjax.lrp.stability import near_jumps
from tffjax.nn import Model, layers_of
from tffjax.nn.sites import probe_sums

TIE = 1e-5


@for_kinds("add")
def sum_in_double(a: jax.Array, b: jax.Array, relevance: jax.Array, *, epsilon: float = 1e-6) -> tuple[Any, ...]:
    """The epsilon rule of a residual sum in float64, of inputs as they are."""
    wide = [array.astype(jnp.float64) for array in (a, b, relevance)]
    to_a, to_b, lost = sum_epsilon(*wide, epsilon=epsilon)
    return to_a, to_b, type(lost)(*(part.astype(relevance.dtype) for part in lost))


@dataclasses.dataclass(frozen=True)
class SharedTies(LrpOps):
    """LRP whose max pools share relevance equally among the inputs that are within `TIE` of the largest."""

    def _max_pool(self, name: str, x: jax.Array, window: Any, geometry: Geometry) -> jax.Array:
        padded = pad(x, geometry.padding, -jnp.inf)
        taps = patches(padded, window, geometry.unpadded())
        y = super()._max_pool(name, jax.lax.stop_gradient(x), window, geometry)
        taps = taps.reshape(*y.shape[:3], -1, y.shape[3])
        wins = taps >= y[..., None, :] - TIE * jnp.abs(y[..., None, :])
        shares = jax.lax.stop_gradient(wins / wins.sum(axis=3, keepdims=True)).astype(x.dtype)
        passed = jnp.where(shares > 0, taps * shares, 0).sum(axis=3)  # -inf is padding
        return y + passed - jax.lax.stop_gradient(passed)


@functools.partial(Pass, static_argnames=("ops", "layers"))
def explain(model: Any, images: jax.Array, targets: jax.Array, ops: type[LrpOps], layers: Any) -> tuple[Any, Any]:
    """Maps, summed over colors, and the shares r of FF-RS that explain the targets."""
    sites = {layer.name: layer.shape[-1] for layer in layers if layer.is_site}
    probes = {name: jnp.zeros((len(images), 2, channels), images.dtype) for name, channels in sites.items()}

    def run(images: jax.Array, probes: Any) -> jax.Array:
        logits = model(images, ops.of(model, layers), lambda site, y: probe_sums(y, probes.get(site)))
        return jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]

    value, pullback = jax.vjp(run, images, probes)
    received, sums = pullback(jnp.ones_like(value))
    shares = [sums[name][:, 0] / sums[name].sum(axis=(1, 2))[:, None] for name in sites]
    return received.sum(axis=3), jnp.concatenate(shares, axis=1)


def study(title: str, model: Model, images: np.ndarray) -> list[str]:
    """Rows of the table for one network."""
    with jax.enable_x64(True):
        beta0 = composite_of("beta0", model)
        doubled = beta0.replace(add=rule(sum_in_double))
        layers = layers_of(prepare(model, beta0), jnp.asarray(images[:1]))
        wide = prepare(model.astype("float64"), beta0)
        single, in_double = (prepare(model, composite) for composite in (beta0, doubled))
        targets = np.concatenate(
            [
                np.asarray(wide(jnp.asarray(images[i : i + 4], jnp.float64))).argmax(axis=1)
                for i in range(0, len(images), 4)
            ]
        )

        def run(model: Any, ops: type[LrpOps] = LrpOps, batch: int = 4, mapped: bool = False) -> tuple[Any, Any]:
            parts, dtype = [], wide_or_not(model)
            function = functools.partial(explain, model, ops=ops, layers=layers)
            for start in range(0, len(images), batch):
                x, t = jnp.asarray(images[start : start + batch], dtype), jnp.asarray(targets[start : start + batch])
                if mapped:
                    found = jax.vmap(lambda x, t: jax.tree.map(lambda a: a[0], function(x[None], t[None])))(x, t)
                else:
                    found = function(x, t)
                parts.append(jax.tree.map(np.asarray, found))
            print(f"{title}: {ops.__name__}, batch {batch}, {dtype}, {'vmap' if mapped else 'as it is'}", flush=True)
            return tuple(np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))

        reference = run(wide)
        variants = {
            "float32, batch of 4": (run(single), reference),
            "float32, each image alone, against the batch": (run(single, batch=1), run(single)),
            "float32, vmap, against the batch": (run(single, mapped=True), run(single)),
            "sums in float64": (run(in_double), reference),
            "ties shared": (run(single, SharedTies), run(wide, SharedTies)),
            "ties shared, against float64 as it is": (run(wide, SharedTies), reference),
        }
        near = near_jumps(model, jnp.asarray(images, jnp.float32), TIE)
    rows = [row(title, name, *pair) for name, pair in variants.items()]
    for kind, what in (("max_pool", "max-pool windows"), ("add", "residual sums"), ("activation", "ReLU inputs")):
        shares = [float(found.shares.mean()) for found in near if found.kind == kind]
        if shares:
            rows.append(f"\n{title}: {100 * np.mean(shares):.2g} % of its {what} are within {TIE:g} of a jump.\n")
    return rows


def wide_or_not(model: Any) -> Any:
    """The type of the weights."""
    return jnp.result_type(*jax.tree.leaves(model.variables))


def row(title: str, name: str, found: tuple[Any, Any], reference: tuple[Any, Any]) -> str:
    """Differences of maps (of the largest pixel, and in norm) and of FF-RS."""
    (maps, shares), (true, known) = found, reference
    pixel = np.abs(maps - true).max(axis=(1, 2)) / np.abs(true).max(axis=(1, 2))
    norm = np.linalg.norm(maps - true, axis=(1, 2)) / np.linalg.norm(true, axis=(1, 2))
    omega, expected = shares.mean(axis=0), known.mean(axis=0)
    spearman = 1 - scipy.stats.spearmanr(omega, expected).statistic
    kept = len(set(np.argsort(-omega)[:114]) & set(np.argsort(-expected)[:114]))
    cells = (np.median(pixel), pixel.max(), np.median(norm), norm.max(), max(spearman, 0))
    return f"| {title} | {name} | " + " | ".join(f"{cell:.1e}" for cell in cells) + f" | {kept} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", required=True, metavar="FILE[=NORMALIZATION]")
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    columns = ("network", "program", "largest pixel: median", "worst", "norm: median", "worst", "FF-RS 1 - Spearman")
    lines = [f"| {' | '.join(columns)} | top 114 kept |", "|" + "---|" * 8]
    files = spread(find_images(options.data), options.images)
    pixels = np.stack([Transform(crop=options.size)(decode(file.path)) for file in files])
    for text in options.weights:
        title, model = load(text)
        lines += study(title, model, normalize(pixels, model.card.normalization))
    (options.out / "stability.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
