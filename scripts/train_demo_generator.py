"""Train the generator of the demonstration: a small ProGAN of 64 pixels, on crops of photographs.

    apt-get download mate-backgrounds plasma-workspace-wallpapers
    for package in *.deb; do dpkg -x $package photographs; done
    python scripts/train_demo_generator.py --photographs photographs --out generator

The crops are those of the demonstration's detector (`demo_data`, the split for training), halved to 64 pixels. The
networks grow from 8 to 64 pixels, new layers are faded in (Karras et al. 2018). The loss is the non-saturating one with
a gradient penalty on real images (R1, Mescheder et al. 2018), every few steps. What is kept is a moving average of the
generator, in float16. OUT/generator is a checkpoint; beside it lie a sheet of images for every size, the raw
weights and `log.csv`.

The work is limited by time, so a run cannot be repeated to the bit.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import demo_data
import jax
import jax.numpy as jnp
import numpy as np
import optax
import skimage
from jaxtyping import Array, Float, UInt8
from PIL import Image

from tffjax.compile.passes import compiler_options
from tffjax.nn.generator import GeneratorCard, generator_of, save_generator
from tffjax.nn.progan import ProGAN
from tffjax.training.operations import Training

WIDTHS = (96, 96, 64, 32, 16)
LATENT = 64
BATCH = 16
MINUTES = {8: 0.05, 16: 0.12, 32: 0.28, 64: 0.55}
"""Share of the time at each size; new layers are faded in during the first third of it."""

EVERY = 8
"""Steps from one gradient penalty to the next."""

AVERAGE = 0.998


def main() -> None:
    options = parser().parse_args()
    found = demo_data.find_photographs([*options.photographs, Path(skimage.__file__).parent])
    crops = demo_data.make_crops(found, "train", options.seed).images
    options.out.mkdir(parents=True, exist_ok=True)
    state, rng = start(options.seed), np.random.default_rng(options.seed)
    lines = ["size,step,images,seconds,discriminator,generator"]
    began = time.monotonic()
    for size, share in MINUTES.items():
        scales, first, limit = int(np.log2(size)) - 1, time.monotonic(), 60 * options.minutes * share
        step, count = compiled(scales), 0
        while (spent := time.monotonic() - first) < limit:
            fade = np.float32(1.0 if size == 8 else min(1.0, 3 * spent / limit))
            state, losses = step(state, batch(crops, size, rng), fade, penalized=count % EVERY == 0)
            count += 1
            if count % 50 == 0:
                said = [
                    size,
                    count,
                    count * BATCH,
                    round(time.monotonic() - began),
                    *(f"{float(x):.4f}" for x in losses),
                ]
                lines.append(",".join(map(str, said)))
                print(lines[-1], flush=True)
                (options.out / "log.csv").write_text("\n".join(lines) + "\n")
            if count % 500 == 0:
                sheet(state, scales, options.out / f"sheet_{size}.png")
                save(state, options.out / "weights.npz")
        sheet(state, scales, options.out / f"sheet_{size}.png")
        save(state, options.out / "weights.npz")
    card = export(state["average"], options.out / "generator")
    print(f"{card.size} pixels, {sum(WIDTHS) * 2} channels, trained for {time.monotonic() - began:.0f} s")


def export(params: Any, path: Path) -> GeneratorCard:
    """Write the generator's checkpoint: kernels as they are used, rounded to float16, which compresses well."""
    own = {name: leaf for name, leaf in params.items() if not name.startswith("rgb")}
    weights = scaled({**own, "rgb": params[f"rgb{len(WIDTHS)}"]})
    rounded = jax.tree.map(lambda a: np.asarray(a).astype(np.float16).astype(np.float32), weights)
    card = GeneratorCard(LATENT, WIDTHS, name="progan", source="scripts/train_demo_generator.py")
    return save_generator(generator_of(card, {"params": rounded}), path, overwrite=True)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True, help="folders with unpacked packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def batch(crops: UInt8[np.ndarray, "n h w 3"], size: int, rng: np.random.Generator) -> Float[np.ndarray, "b s s 3"]:
    """Random crops of 128 pixels, mirrored or not, averaged down to `size`; in [-1, 1]."""
    rows = np.empty((BATCH, size, size, 3), np.float32)
    for row in rows:
        image = crops[rng.integers(len(crops))]
        top, left = rng.integers(0, image.shape[0] - demo_data.CROP + 1, 2)
        image = image[top : top + demo_data.CROP, left : left + demo_data.CROP].astype(np.float32)
        factor = demo_data.CROP // size
        row[...] = image.reshape(size, factor, size, factor, 3).mean((1, 3))[:, :: rng.choice((1, -1))]
    return rows / 127.5 - 1


# The networks, whose kernels are drawn from N(0, 1) and scaled where they are used (equalized learning rate)


def scaled(params: Any, gain: float = np.sqrt(2)) -> Any:
    """Kernels times gain / sqrt(fan in); those to RGB and to the decision have gain 1."""

    def scale(path: Any, leaf: jax.Array) -> jax.Array:
        if leaf.ndim < 2:
            return leaf
        name = path[0].key
        fan_in = leaf.shape[-2] * (1 if name == "4x4.dense" else np.prod(leaf.shape[:-2], dtype=int))
        return leaf * np.float32((1.0 if name in ("rgb", "decision") else gain) / np.sqrt(fan_in))

    return jax.tree_util.tree_map_with_path(scale, params)


def generate(params: Any, latents: Float[Array, "n l"], scales: int, fade: Any = 1.0) -> Float[Array, "n s s 3"]:
    """Images of so many scales; with `fade` below 1 partly those of one scale less, enlarged."""

    def one(scales: int) -> jax.Array:
        own = {name: leaf for name, leaf in params.items() if not name.startswith("rgb")}
        weights = scaled({**own, "rgb": params[f"rgb{scales}"]})
        return ProGAN(WIDTHS[:scales]).apply({"params": weights}, latents[:, None, None], Training())

    image = one(scales)
    if scales == 2:  # where training begins
        return image
    low = one(scales - 1)
    return fade * image + (1 - fade) * jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)


def conv(x: jax.Array, layer: dict[str, jax.Array]) -> jax.Array:
    y = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + layer["bias"]


def lrelu(x: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, x, 0.2 * x)


def halved(x: jax.Array) -> jax.Array:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def judge(params: Any, images: Float[Array, "n s s 3"], scales: int, fade: Any = 1.0) -> Float[Array, " n"]:
    """How real images are, a logit; the mirror image of the generator."""
    layers = scaled(params)
    x = lrelu(conv(images, layers[f"from{scales}"]))
    for scale in range(scales - 1, 0, -1):
        x = lrelu(conv(x, layers[f"{scale}.conv0"]))
        x = halved(lrelu(conv(x, layers[f"{scale}.conv1"])))
        if scale == scales - 1 and scales > 2:
            x = fade * x + (1 - fade) * lrelu(conv(halved(images), layers[f"from{scale}"]))
    groups = x.reshape(4, -1, *x.shape[1:])
    spread = jnp.sqrt(groups.var(axis=0) + 1e-8).mean(axis=(1, 2, 3))
    spread = jnp.broadcast_to(jnp.tile(spread, 4)[:, None, None, None], (*x.shape[:3], 1))
    x = lrelu(conv(jnp.concatenate([x, spread], axis=-1), layers["last"]))
    x = lrelu(x.reshape(len(x), -1) @ layers["flat"]["kernel"] + layers["flat"]["bias"])
    return (x @ layers["decision"]["kernel"] + layers["decision"]["bias"])[:, 0]


def start(seed: int) -> dict[str, Any]:
    """Both networks at their full size, their optimizers, the average, and a key."""
    rng = np.random.default_rng(seed)

    def layer(*shape: int) -> dict[str, jax.Array]:
        return {"kernel": jnp.asarray(rng.standard_normal(shape), jnp.float32), "bias": jnp.zeros(shape[-1])}

    generator = {"4x4.dense": layer(4, 4, LATENT, WIDTHS[0]), "4x4.conv": layer(3, 3, WIDTHS[0], WIDTHS[0])}
    judge_ = {
        "last": layer(3, 3, WIDTHS[0] + 1, WIDTHS[0]),
        "flat": layer(16 * WIDTHS[0], WIDTHS[0]),
        "decision": layer(WIDTHS[0], 1),
    }
    for scale, width in enumerate(WIDTHS):
        generator[f"rgb{scale + 1}"], judge_[f"from{scale + 1}"] = layer(1, 1, width, 3), layer(1, 1, 3, width)
        if scale:
            before, block = WIDTHS[scale - 1], f"{4 * 2**scale}x{4 * 2**scale}"
            generator[f"{block}.conv0"] = layer(3, 3, before, width)
            generator[f"{block}.conv1"] = layer(3, 3, width, width)
            judge_[f"{scale}.conv0"], judge_[f"{scale}.conv1"] = layer(3, 3, width, width), layer(3, 3, width, before)
    optimizer = optimizer_of()
    return {
        "generator": generator,
        "judge": judge_,
        "average": jax.tree.map(jnp.copy, generator),
        "of_generator": optimizer.init(generator),
        "of_judge": optimizer.init(judge_),
        "key": jax.random.key(seed),
    }


def optimizer_of() -> optax.GradientTransformation:
    return optax.adam(1.5e-3, b1=0.0, b2=0.99)


def compiled(scales: int) -> Any:
    """A step: the discriminator, then the generator."""

    def step(state: dict[str, Any], real: jax.Array, fade: jax.Array, penalized: bool) -> tuple[dict[str, Any], Any]:
        key, one, two = jax.random.split(state["key"], 3)
        latents = [jax.random.normal(k, (BATCH, LATENT)) for k in (one, two)]
        real = real if scales == 2 else fade * real + (1 - fade) * jnp.repeat(jnp.repeat(halved(real), 2, 1), 2, 2)

        def of_judge(params: Any) -> jax.Array:
            fake = jax.lax.stop_gradient(generate(state["generator"], latents[0], scales, fade))
            loss = jax.nn.softplus(judge(params, fake, scales, fade)) + jax.nn.softplus(
                -judge(params, real, scales, fade)
            )
            if penalized:
                slopes = jax.grad(lambda images: judge(params, images, scales, fade).sum())(real)
                loss = loss + EVERY * penalty(scales) / 2 * jnp.square(slopes).sum(axis=(1, 2, 3))
            return loss.mean()

        value, gradients = jax.value_and_grad(of_judge)(state["judge"])
        updates, of_judge_state = optimizer_of().update(gradients, state["of_judge"])
        judge_ = optax.apply_updates(state["judge"], updates)

        def of_generator(params: Any) -> jax.Array:
            return jax.nn.softplus(-judge(judge_, generate(params, latents[1], scales, fade), scales, fade)).mean()

        gain, gradients = jax.value_and_grad(of_generator)(state["generator"])
        updates, of_generator_state = optimizer_of().update(gradients, state["of_generator"])
        generator = optax.apply_updates(state["generator"], updates)
        average = jax.tree.map(lambda a, b: AVERAGE * a + (1 - AVERAGE) * b, state["average"], generator)
        return {
            "generator": generator,
            "judge": judge_,
            "average": average,
            "of_generator": of_generator_state,
            "of_judge": of_judge_state,
            "key": key,
        }, (value, gain)

    return jax.jit(step, static_argnames="penalized", donate_argnums=0, compiler_options=compiler_options())


def penalty(scales: int) -> float:
    """Weight of the gradient penalty: 1 at 64 pixels, less at smaller sizes, where slopes are those of more pixels."""
    return 4.0 ** (scales - len(WIDTHS))


@functools.cache
def _shower(scales: int) -> Any:
    return jax.jit(functools.partial(generate, scales=scales))


def sheet(state: dict[str, Any], scales: int, path: Path) -> None:
    """64 images of the average generator, enlarged to 64 pixels."""
    latents = np.random.default_rng(1).standard_normal((64, LATENT)).astype(np.float32)
    images = np.asarray(_shower(scales)(state["average"], latents))
    pixels = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    size = pixels.shape[1]
    rows = pixels.reshape(8, 8, size, size, 3).transpose(0, 2, 1, 3, 4).reshape(8 * size, 8 * size, 3)
    Image.fromarray(rows).resize((512, 512), Image.Resampling.NEAREST).save(path)


def save(state: dict[str, Any], path: Path) -> None:
    """The raw weights of the averaged generator."""
    np.savez(
        path,
        **{f"{name}/{leaf}": np.asarray(a) for name, layer in state["average"].items() for leaf, a in layer.items()},
    )


if __name__ == "__main__":
    main()
