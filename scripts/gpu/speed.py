"""Parts 4 and 5: how fast the passes are, and how fast they could be."""

import concurrent.futures
import dataclasses
import functools
import gzip
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import tffjax
from gpu import networks
from gpu.checks import model_of, model_to_time, precisions_here, shares
from gpu.work import Rows, Setup
from tffjax.compile.logits import forward
from tffjax.compile.passes import compiler_options
from tffjax.compile.prepared import Prepared
from tffjax.compile.products import products
from tffjax.kernels.choice import Kernels
from tffjax.kernels.convolution import Geometry, conv
from tffjax.kernels.precision import PRECISIONS
from tffjax.nn import Model
from tffjax.nn.graph import trace

SIDE = 224
OTHER_BATCHES = (32, 64, 256, 512)


def floor(setup: Setup) -> Rows:
    """Rates of matrix products (TFLOP/s) and of a copy (GB/s, read and written)."""
    n = 256 if setup.quick else 8192
    for chosen in precisions_here():
        dtype = jnp.bfloat16 if chosen == "bfloat16" else jnp.float32
        a, b = (jax.random.normal(jax.random.key(seed), (1, 1, n, n), dtype) for seed in range(2))
        run = functools.partial(conv, geometry=Geometry(), precision=chosen, kernels=Kernels(pointwise=PRECISIONS))
        dot = jax.jit(run, compiler_options=compiler_options())
        yield (
            "floor",
            {
                "what": f"products, {chosen}",
                "rate": 2 * n**3 / setup.seconds(dot, a, b, wait=jax.block_until_ready) / 1e12,
                "unit": "TFLOP/s",
                "how": f"{n} x {n} x {n}",
            },
        )
    x = jax.random.normal(jax.random.key(0), (2**20 if setup.quick else 2**29,), jnp.float32)
    yield (
        "floor",
        {
            "what": "copy",
            "rate": 2 * x.nbytes / setup.seconds(jax.jit(lambda x: x + 1), x, wait=jax.block_until_ready) / 1e9,
            "unit": "GB/s",
            "how": f"x + 1 of {x.nbytes / 2**30:.3g} GiB",
        },
    )


class Variant(NamedTuple):
    """A pass to time: what it is called, its function of (model, images), the model, and work for one image."""

    what: str
    function: Callable[..., Any]
    model: Prepared
    gflop: float
    gigabytes: float


def passes(setup: Setup, name: str, batch: int, formats: tuple[str, ...]) -> Rows:
    """LRP with the sums of all sites, and the forward pass."""
    model, size, batch = model_to_time(setup, name), *((32, 4) if setup.quick else (SIDE, batch))
    formats = [chosen for chosen in formats if chosen in precisions_here()]
    wanted = [v for chosen in formats for v in (_lrp(model, size, chosen), _forward(model, size, chosen))]
    yield from timed_rows(setup, name, size, batch, wanted, keep_text=True)


def batches(setup: Setup, name: str, formats: tuple[str, ...]) -> Rows:
    """LRP at other batch sizes."""
    model, size = model_to_time(setup, name), 32 if setup.quick else SIDE
    for batch in (2,) if setup.quick else OTHER_BATCHES:
        wanted = [_lrp(model, size, chosen) for chosen in formats if chosen in precisions_here()]
        yield from timed_rows(setup, name, size, batch, wanted)


def _lrp(model: Model, size: int, chosen: str) -> Variant:
    prepared = tffjax.prepare(model, "beta0", precision=chosen, size=(size, size))
    return Variant("LRP, sums of all sites", shares, prepared, *cost(model, size, chosen, lrp=True))


def _forward(model: Model, size: int, chosen: str) -> Variant:
    prepared = tffjax.prepare(model, precision=chosen, size=(size, size))
    return Variant("forward", forward, prepared, *cost(model, size, chosen, lrp=False))


def timed_rows(setup: Setup, name: str, size: int, batch: int, wanted: list[Variant], keep_text: bool = False) -> Rows:
    """A row of the speed table for each variant; all are compiled before the first is timed."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(batch, size, size, 3)), jnp.float32)
    texts = {}
    for variant, compiled, compile_seconds in compile_all(wanted, images):
        row = {"network": networks.NETWORKS[name].title, "pass": variant.what, "by": "tffjax"}
        row |= {"precision": variant.model.precision, "batch": batch}
        if isinstance(compiled, Exception):
            yield "speed", row | {"products": f"failed: {str(compiled)[:200]}"}
            continue
        try:
            each = setup.seconds(compiled, variant.model, images, wait=jax.block_until_ready) / batch
        except jax.errors.JaxRuntimeError as error:
            yield "speed", row | {"products": f"failed: {str(error)[:200]}"}
            continue
        memory = compiled.memory_analysis()
        taken = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        text = compiled.as_text()
        if keep_text and variant.what.startswith("LRP"):
            texts[f"{name} {variant.model.precision}"] = text
        yield (
            "speed",
            row
            | {
                "images/s": 1 / each,
                "GFLOP": variant.gflop,
                "GB": variant.gigabytes,
                "of the floor": None,
                "GiB": taken / 2**30,
                "compiled in s": compile_seconds,
                "products": products(text),
            },
        )
    if texts:
        with gzip.open(setup.out / "programs.txt.gz", "at") as file:
            for title, text in texts.items():
                file.write(f"\n\n======== {title} ========\n{text}")


def compile_all(
    wanted: list[Variant], images: jax.Array
) -> Iterator[tuple[Variant, jax.stages.Compiled | Exception, float]]:
    """The variants compiled, side by side."""

    def compiled(lowered: Any) -> tuple[Any, float]:
        start = time.perf_counter()
        try:
            return lowered.compile(compiler_options()), time.perf_counter() - start
        except jax.errors.JaxRuntimeError as error:
            return error, time.perf_counter() - start

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(compiled, jax.jit(variant.function).lower(variant.model, images)) for variant in wanted]
    for variant, future in zip(wanted, futures, strict=True):
        yield variant, *future.result()


def cost(model: Model, size: int, chosen: str, lrp: bool) -> tuple[float, float]:
    """GFLOP and GB of one image.

    Products: the forward pass once; LRP once more for each denominator and transpose, which are one each where a
    convolution's input is nonnegative, and two where it is not. Memory: a forward pass reads every convolution's input
    and writes its output; LRP takes six such passes if no work element by element is fused into a convolution (values,
    denominators, shares; transposes, and the product with the input).
    """
    dtype = jnp.result_type(*jax.tree.leaves(model.variables))
    layers = trace(model, jax.ShapeDtypeStruct((1, size, size, 3), dtype))
    sizes = [3 * size**2, *(math.prod(layer.shape) for layer in layers)]
    convolutions = [(number, layer) for number, layer in enumerate(layers, 1) if layer.kind == "conv"]
    products = sum(
        layer.multiply_adds * (1 + 2 * (1 if layer.nonnegative else 2) if lrp else 1) for _, layer in convolutions
    )
    numbers = sum(sizes[layer.inputs[0]] + sizes[number] for number, layer in convolutions) * (6 if lrp else 1)
    return 2 * products / 1e9, numbers * (2 if chosen == "bfloat16" else 4) / 1e9


def studies(setup: Setup, name: str) -> Rows:
    """Dropout at 16 settings, from the first site and from a late one; color."""
    from tffjax.studies.color.activations import max_activations
    from tffjax.studies.dropout.logits import masked_logits
    from tffjax.studies.dropout.settings import Setting
    from tffjax.studies.rankings import all_channels

    model = model_of(setup, name)
    size, batch = (32, 4) if setup.quick else (SIDE, 128)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch, size, size, 3)), jnp.float32)
    channels = all_channels(model)
    late = channels[int(0.9 * len(channels)) :]
    for what, some in (("first site", channels), ("last tenth of the channels", late)):
        picks = [rng.choice(len(some), min(27, len(some) // 2), replace=False) for _ in range(16)]
        settings = [Setting(f"s{i}", tuple(some[j] for j in sorted({0, *pick}))) for i, pick in enumerate(picks)]
        run = functools.partial(masked_logits, model, images, settings)
        each = setup.seconds(run, wait=jax.block_until_ready) / batch
        yield "speed", _study_row(name, f"dropout, 16 settings from the {what}, per setting", batch, 16 / each)
    many = tuple(channels[i] for i in sorted(rng.choice(len(channels), min(114, len(channels)), replace=False)))
    pairs = images.reshape(batch // 2, 2, size, size, 3)
    run = functools.partial(max_activations, model, pairs, many)
    each = setup.seconds(run, wait=jax.block_until_ready) / (batch // 2)
    yield "speed", _study_row(name, f"color, image and grayscale, {len(many)} channels", batch // 2, 1 / each)


def training(setup: Setup, name: str) -> Rows:
    """A training step of batch 64."""
    from tffjax.training.step import Recipe, compile_step, start

    size, batch = (32, 4) if setup.quick else (SIDE, 64)
    model = model_of(setup, name)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch, size, size, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, batch), jnp.float32)
    for chosen in precisions_here():
        state = start(model)
        begun = time.perf_counter()
        step = compile_step(model, Recipe(batch_size=batch, precision=chosen), state, size)
        compiled_in = time.perf_counter() - begun
        times = []
        for _ in range(8):
            begun = time.perf_counter()
            state, loss, _ = step(state, images, labels, jnp.float32(1e-4))
            loss.block_until_ready()
            times.append(time.perf_counter() - begun)
        row = _study_row(name, "training step", batch, batch / statistics.median(times[2:]))
        yield "speed", row | {"precision": chosen, "compiled in s": compiled_in}


def lrpmax(setup: Setup, name: str) -> Rows:
    """The published list of channels, explained in some images."""
    from tffjax.studies.lrpmax.neurons import lrp_max

    if setup.quick:
        size, count = 32, 2
        keys = ["conv1.#1(T=8)", "head.#3(T=16)"]
    else:
        size, count = 256, 16
        keys = json.loads((setup.goldens / "lists.json").read_text()).get(name, [])
    if not keys:
        raise ImportError("the published list (gpu_goldens.py --published)")
    model = model_of(setup, name)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(count, size, size, 3)), jnp.float32)
    start = time.perf_counter()
    lrp_max(model, images, keys)
    first = time.perf_counter() - start
    start = time.perf_counter()
    lrp_max(model, images, keys)
    each = time.perf_counter() - start
    row = _study_row(
        name, f"LRP-max, list of {len(keys)} at {size}, (image, channel) pairs", count, count * len(keys) / each
    )
    yield "speed", row | {"compiled in s": first - each}


def lrpmax_batches(setup: Setup, name: str) -> Rows:
    """LRP-max with other batches: how many pixels are explained at once, and how many neurons share a pass."""
    from tffjax.studies.lrpmax.neurons import Neurons, neuron_maps
    from tffjax.studies.lrpmax.plan import plan
    from tffjax.studies.lrpmax.search import maxima
    from tffjax.studies.rankings import parse_key

    if setup.quick:
        size, count, keys, others = 32, 2, ["conv1.#1(T=8)", "head.#3(T=16)"], ((2**12, 2),)
    else:
        size, count = 256, 32
        keys = json.loads((setup.goldens / "lists.json").read_text()).get(name, [])
        others = ((2**20, 8), (2**22, 8), (2**22, 32), (2**23, 8), (2**23, 32))
    if not keys:
        raise ImportError("the published list (gpu_goldens.py --published)")
    channels = [parse_key(key) for key in keys]
    model = tffjax.prepare(model_of(setup, name), "beta0", size=(size, size))
    images = np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)
    sites = [channel.site for channel in channels]
    ways = plan(model, (size, size), {site: sites.count(site) for site in sites}, 10**5)
    begun = time.perf_counter()
    _, positions, gates = jax.block_until_ready(maxima(model, images, channels))
    rows, columns = (a.ravel() for a in np.indices((count, len(channels))))
    neurons = Neurons(rows, [channels[column] for column in columns], np.asarray(positions)[rows, columns])
    yield "lrpmax", {"network": networks.NETWORKS[name].title, "what": "search", "s": time.perf_counter() - begun}
    crops, full = (np.isin([sites[column] for column in columns], list(some)) for some in (ways.crops, ways.full))
    for pixels, lanes in others:
        changed = dataclasses.replace(ways, pixels=pixels, lanes=lanes)
        for what, some in (("on crops", crops), ("in full", full)):
            if not some.any():
                continue
            where = np.flatnonzero(some)
            few = Neurons(rows[where], [neurons.channels[number] for number in where], neurons.positions[where])
            seconds = []
            try:
                for _ in range(2):
                    begun = time.perf_counter()
                    neuron_maps(model, changed, images, few, gates)
                    seconds.append(time.perf_counter() - begun)
            except jax.errors.JaxRuntimeError as error:
                seconds = [math.nan, math.nan]
                what += f": {str(error)[:60]}"
            row = {"network": networks.NETWORKS[name].title, "what": what, "pixels": pixels, "lanes": lanes}
            row |= {"sites": len(ways.crops if what == "on crops" else ways.full), "neurons": len(where)}
            yield "lrpmax", row | {"neurons/s": len(where) / seconds[1], "compiled in s": seconds[0] - seconds[1]}


def _study_row(name: str, what: str, batch: int, rate: float) -> dict[str, Any]:
    row = {"network": networks.NETWORKS[name].title, "pass": what, "by": "tffjax", "precision": "float32"}
    return row | {"batch": batch, "images/s": rate}
