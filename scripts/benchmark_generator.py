"""Time LRP through a generator: the composite pass, the detector's LRP alone, the generator's forward pass alone.

    python scripts/benchmark_generator.py                          the demonstration's detector and generator, 64 pixels
    python scripts/benchmark_generator.py --network resnet50 --size 256 --batch 4

With --size the generator is a ProGAN of that size with random weights, as wide as the published ones. Contenders take
turns, A B C A B C ...; after a warm-up the median of several rounds counts. Only ratios within one run mean anything on
a shared machine, and processor time more than the clock.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmark import random_model

import tffjax
from tffjax.embedded import EMBEDDED
from tffjax.lrp.explain import relevance
from tffjax.lrp.generated import INSIDE, detector_input, generated_relevance
from tffjax.nn import Card, Model
from tffjax.nn.generator import Generator, GeneratorCard, draw_latents, generator_of, load_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["resnet50", "efficientnet_b0"], help="with random weights")
    parser.add_argument("--size", type=int, help="of a generator with random weights")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    detector, generator = networks(options.network, options.size)
    runs = contenders(detector, generator, options.batch)
    for run in runs.values():
        run()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            began = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    print(f"{detector.card.architecture}, {generator.card.size} pixels, batch {options.batch}, {jax.default_backend()}")
    for name, taken in times.items():
        clock, processor = (options.batch / statistics.median(column) for column in zip(*taken, strict=True))
        print(f"{name}: {clock:.2f} images/s, {processor:.2f} images a processor second")


def networks(network: str | None, size: int | None) -> tuple[Model, Generator]:
    detector = tffjax.load(EMBEDDED.detector)
    if network:
        model, _ = random_model(network)
        padding, epsilon = ("symmetric", 1e-5) if network == "resnet50" else ("same", 1e-3)
        detector = dataclasses.replace(model, card=Card(network, 1, padding, epsilon))
    if size is None:
        return detector, load_generator(EMBEDDED.generator)
    scales = int(np.log2(size)) - 1
    card = GeneratorCard(512, tuple(min(512, 8192 // 2**scale) for scale in range(1, scales + 1)), name="random")
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> np.ndarray:
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.1
        return (spread * rng.standard_normal(leaf.shape)).astype(np.float32)

    return detector, generator_of(card, jax.tree.map(draw, card.shapes()))


def contenders(detector: Model, generator: Generator, batch: int) -> dict[str, Callable[[], Any]]:
    """Name -> a function that runs one pass to its end."""
    size = (generator.card.size, generator.card.size)
    explained = tffjax.prepare(detector, "beta0", size=size)
    inside = tffjax.prepare(generator.model, INSIDE, size=generator.latent_shape)
    prepared = dataclasses.replace(generator, model=inside)
    plain = dataclasses.replace(generator, model=tffjax.prepare(generator.model, size=generator.latent_shape))
    latents = jnp.asarray(draw_latents(0, range(batch), generator.card.latent))
    forward = jax.jit(lambda generator, latents: generator(latents))
    seen = detector_input(forward(plain, latents), detector.card.normalization)
    return {
        "generator, forward": lambda: forward(plain, latents).block_until_ready(),
        "detector, LRP": lambda: relevance(explained, seen).input.block_until_ready(),
        "both, LRP": lambda: jax.block_until_ready(generated_relevance(explained, prepared, latents)),
    }


if __name__ == "__main__":
    main()
