"""Rankings and explanations of channels when products are computed in lower precision, emulated on any machine.

    python scripts/precision_study.py --weights detector.pth --data DATA --out study
    python scripts/precision_study.py --weights a.pth b.pth=caffe --data DATA MORE --images 100 --out study
    python scripts/precision_study.py --weights detector.pth --data DATA --out trial --quick    small, to try it out

Each weights file may name its input normalization (`FILE=caffe`; by default ImageNet's). All images are one set,
whatever their labels. LRP (beta0) explains the output that is largest in float64, the same one in every format:

- float64, the reference, and float32, both as tffjax computes them;
- TF32 and bfloat16: both inputs of every product (convolutions, dense layers, their transposes) are rounded to 10 or 7
  bits of mantissa, to nearest even; sums are in float32;
- bfloat16 storage: outputs of products, activations and relevances are rounded too, as if they were stored so.

Writes precision.md and precision.json. Needs PyTorch to read the weights. A run that was interrupted goes on with the
next format when it is started again: what has been computed is kept in the folder.
"""

import argparse
import collections
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from tffjax.conversion import checkpoint
from tffjax.conversion.graphs import assumed
from tffjax.conversion.variables import to_flax

from tffjax.compile.passes import Pass
from tffjax.data import ImageFile, find_images, relative_names
from tffjax.data.preprocessing import Transform, decode, normalize
from tffjax.files import replace_file
from tffjax.kernels.pooling import winners
from tffjax.lrp.composites import composite_of
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.redistribution import LinearMap
from tffjax.nn import Model, canonize, module_of
from tffjax.nn.card import NORMALIZATIONS, Card
from tffjax.nn.functions import relu
from tffjax.nn.graph import layers_of
from tffjax.nn.ops import Activation
from tffjax.nn.sites import outputs_at, probe_sums
from tffjax.studies.ffrs.bootstrap import image_keys, poisson_weights, topk_overlap
from tffjax.studies.ffrs.statistic import order
from tffjax.studies.lrpmax.neurons import patch_box
from tffjax.studies.rankings import Channel, all_channels

BATCH = 4
TOP_K = (27, 114)  # of EfficientNet-B0 and of ResNet-50 in the paper
REPLICATES = 200


@dataclasses.dataclass(frozen=True)
class Format:
    """How numbers are rounded: `mantissa` explicit bits of a product's inputs (None: all), `storage` of all else."""

    name: str
    dtype: str = "float32"
    mantissa: int | None = None
    storage: bool = False

    def product(self, x: jax.Array) -> jax.Array:
        """An input of a product. The derivative of the rounding is the rounding: relevances are rounded likewise."""
        return x if self.mantissa is None else jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=self.mantissa)

    def stored(self, x: jax.Array) -> jax.Array:
        """What is kept: an activation forward, a relevance backward."""
        return self.product(x) if self.storage else x


FORMATS = (
    Format("float64", "float64"),
    Format("float32"),
    Format("TF32", mantissa=10),
    Format("bfloat16", mantissa=7),
    Format("bfloat16 storage", mantissa=7, storage=True),
)


@dataclasses.dataclass(frozen=True)
class Rounded(LinearMap):
    """A convolution or dense layer (`tffjax.lrp.linear`) whose products are rounded."""

    linear: Any
    format: Format

    def __call__(self, x: jax.Array, kernel: jax.Array, transformed: Any = None) -> jax.Array:
        """The map; a direct convolution, because Winograd's would multiply sums of inputs and not the inputs."""
        return self.format.stored(self.linear(self.format.product(x), self.format.product(kernel)))

    values = __call__

    def transposes(self, s: jax.Array, kernels: list[jax.Array], like: jax.Array) -> list[jax.Array]:
        """Its transpose. Winograd's is left in: on rounded inputs its sums are right to float32."""
        kernels = [self.format.product(kernel) for kernel in kernels]
        return [self.format.stored(x) for x in self.linear.transposes(self.format.product(s), kernels, like)]

    def positive(self, x: jax.Array, *kernels: jax.Array) -> jax.Array:
        """Sum of the positive contributions."""
        return self.format.stored(self.linear.positive(self.format.product(x), *map(self.format.product, kernels)))


@dataclasses.dataclass(frozen=True)
class RoundedOps(LrpOps):
    """LRP in a format. `stored` stands at both ends of an operation, so that it rounds the relevances of branches."""

    format: Format = FORMATS[0]
    relus: list[jax.Array] = dataclasses.field(default_factory=list)  # which inputs are positive
    pools: list[jax.Array] = dataclasses.field(default_factory=list)  # which input each window of a max pool takes

    def _linear(self, linear: Any, x: jax.Array, kernel: Any, bias: Any, name: str) -> jax.Array:
        if kernel is not None and self.format.mantissa is not None:
            linear = Rounded(linear, self.format)
        return self.format.stored(super()._linear(linear, self.format.stored(x), kernel, bias, name))

    def _activation(self, name: str, x: jax.Array, function: Activation) -> jax.Array:
        if function is relu:
            self.relus.append(x > 0)
        return self.format.stored(super()._activation(name, x, function))

    def _max_pool(self, name: str, x: jax.Array, window: Any, geometry: Any) -> jax.Array:
        y = super()._max_pool(name, self.format.stored(x), window, geometry)
        self.pools.append(winners(x, window, geometry, y.shape[1:3]))
        return y

    def _add(self, name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return self.format.stored(super()._add(name, self.format.stored(a), self.format.stored(b)))

    def _gate(self, name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
        return self.format.stored(super()._gate(name, self.format.stored(x), gate))


NewOps = Callable[[], RoundedOps]  # an object for each trace, as it notes decisions
Arrays = tuple[jax.Array, ...]


class Measured(NamedTuple):
    """What a network says in one format: of n images and, for LRP-max, of c channels in the first m of them."""

    targets: np.ndarray  # (n,) the explained output
    shares: np.ndarray  # (n, channels) r of FF-RS, explaining +f
    maps: np.ndarray  # (n, h, w) relevance of the pixels
    positions: np.ndarray  # (m, c) flat position of the channel's strongest neuron
    boxes: np.ndarray  # (m, c, 4) box of its explanation
    relus: np.ndarray  # (m, ...) which inputs of ReLUs are positive
    pools: np.ndarray  # (m, ...) which input each window of a max pool takes


@functools.partial(Pass, static_argnames=("new_ops",))
def explain_images(model: Model, images: jax.Array, targets: jax.Array, new_ops: NewOps) -> Arrays:
    """Target, shares and map of each image; a target of -1 is the largest output."""
    ops = new_ops()
    sites = [layer for layer in ops.layers if layer.is_site]
    probes = {layer.name: jnp.zeros((len(images), 2, layer.shape[-1]), images.dtype) for layer in sites}

    def output(images: jax.Array, probes: dict[str, jax.Array]) -> Arrays:
        logits = model(ops.format.stored(images), ops, lambda site, y: probe_sums(y, probes[site]))
        chosen = jnp.where(targets < 0, logits.argmax(axis=1).astype(targets.dtype), targets)
        return jnp.take_along_axis(logits, chosen[:, None], axis=1)[:, 0], chosen

    value, pullback, chosen = jax.vjp(output, images, probes, has_aux=True)
    received, sums = pullback(jnp.ones_like(value))
    totals = {layer.name: sums[layer.name].sum(axis=(1, 2))[:, None] for layer in sites}
    shares = [sums[name][:, 0] / jnp.where(total > 0, total, 1) for name, total in totals.items()]
    return chosen, jnp.concatenate(shares, axis=1), received.sum(axis=3)


@functools.partial(Pass, static_argnames=("channels", "new_ops"))
def explain_neurons(model: Model, images: jax.Array, channels: tuple[Channel, ...], new_ops: NewOps) -> Arrays:
    """Position and map of the strongest neuron of each channel; denominators are shared, as in full passes."""
    ops, sites = new_ops(), tuple(dict.fromkeys(channel.site for channel in channels))

    def largest(images: jax.Array) -> Arrays:
        outputs = outputs_at(model, ops.format.stored(images), sites, ops)
        ys = [outputs[sites.index(site)][..., index].reshape(len(images), -1) for site, index, _ in channels]
        places = [y.argmax(axis=1) for y in ys]
        values = [y[jnp.arange(len(y)), place] for y, place in zip(ys, places, strict=True)]
        return jnp.stack(values), jnp.stack(places)

    values, backward, places = jax.vjp(largest, images, has_aux=True)
    _, backward = jax.linearize(backward, jnp.zeros_like(values))
    starts = jnp.eye(len(channels), dtype=values.dtype)[:, :, None] * (values > 0).astype(values.dtype)
    maps = jax.lax.map(lambda start: backward(start)[0].sum(axis=3), starts)
    return places.T, maps.swapaxes(0, 1)


@functools.partial(Pass, static_argnames=("new_ops",))
def decide(model: Model, images: jax.Array, new_ops: NewOps) -> Arrays:
    """Decisions that may flip: which inputs of ReLUs are positive, which input each window of a max pool takes."""
    ops = new_ops()
    model(ops.format.stored(images), ops)
    none = jnp.zeros((len(images), 0), jnp.int8)
    relus, pools = ([x.astype(jnp.int8).reshape(len(x), -1) for x in some] for some in (ops.relus, ops.pools))
    return jnp.concatenate([none, *relus], axis=1), jnp.concatenate([none, *pools], axis=1)


def in_batches(function: Callable[..., Any], *arrays: np.ndarray, say: str = "") -> Any:
    """`function` of a few rows at a time; the last batch is filled up, so that all are compiled once."""
    count, parts, start = len(arrays[0]), [], time.monotonic()
    for first in range(0, count, BATCH):
        rows = np.minimum(np.arange(first, first + BATCH), count - 1)
        parts.append(jax.tree.map(np.asarray, function(*(jnp.asarray(array[rows]) for array in arrays))))
        if say and (first // BATCH % 10 == 9 or first + BATCH >= count):
            print(f"{say}: {rows[-1] + 1} of {count}, {time.monotonic() - start:.0f} s", flush=True)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *parts)


def measure(model: Model, images: np.ndarray, few: int, format: Format, reference: Measured | None = None) -> Measured:
    """Explain images, and neurons of the first `few` of them; target and channels are those of the reference."""
    wide = format.dtype == "float64"
    with jax.enable_x64(wide):
        model, images = canonize(model.astype(format.dtype)), images.astype(format.dtype)
        parts = {"composite": composite_of("beta0", model), "layers": layers_of(model, images), "format": format}
        new_ops = functools.partial(RoundedOps, **parts)
        targets = np.full(len(images), -1, np.int32) if reference is None else reference.targets
        explain = functools.partial(explain_images, model, new_ops=new_ops)
        targets, shares, maps = in_batches(explain, images, targets, say=f"{format.name}, images")
        known = shares if reference is None else reference.shares
        best, every = order(known.mean(axis=0, dtype=np.float64))[: TOP_K[0]], all_channels(model)
        explain = functools.partial(explain_neurons, model, channels=tuple(every[i] for i in best), new_ops=new_ops)
        positions, crops = in_batches(explain, images[:few], say=f"{format.name}, neurons")
        boxes = np.stack([patch_box(crop) for crop in crops.reshape(-1, *maps.shape[1:])])
        boxes = boxes.reshape(*positions.shape, 4)
        decisions = in_batches(functools.partial(decide, model, new_ops=new_ops), images[:few])
    return Measured(targets, shares, maps, positions, boxes, *decisions)


RANKINGS = ("1 - Spearman", "top 27 kept", "top 114 kept", "largest shift", "median shift", "largest relative shift")
MAPS = ("worst map error", "median map error", "neurons moved", "boxes moved", "of same neuron", "median IoU of moved")
FLIPS = ("ReLU flips", "max pool flips")


def compare(reference: Measured, other: Measured, names: Sequence[str]) -> dict[str, float]:
    """How far another format is from the reference; omegas of top channels shift by so many bootstrap errors."""
    weights = poisson_weights(image_keys(names), REPLICATES, seed=0)
    weights = weights[weights.any(axis=1)]  # of very few images a replicate may have none
    error = (weights @ reference.shares / weights.sum(axis=1, keepdims=True)).std(axis=0, ddof=1)
    omega, changed = (one.shares.mean(axis=0, dtype=np.float64) for one in (reference, other))
    top = [channel for channel in order(omega)[: TOP_K[1]] if error[channel] > 0]
    shift, relative = (np.abs(changed - omega)[top] / unit[top] for unit in (error, omega))
    kept = [topk_overlap(np.stack([omega, changed]), k)[1] for k in TOP_K]
    norm = functools.partial(np.linalg.norm, axis=(1, 2))
    off = norm(other.maps.astype(np.float64) - reference.maps) / norm(reference.maps)
    neuron_moved, box_moved = other.positions != reference.positions, (other.boxes != reference.boxes).any(axis=2)
    correlation = scipy.stats.spearmanr(omega, changed).statistic
    values = [1 - correlation, *kept, shift.max(), np.median(shift), relative.max(), off.max(), np.median(off)]
    overlaps = iou(reference.boxes, other.boxes)[box_moved]
    values += [neuron_moved.mean(), box_moved.mean(), _mean(box_moved[~neuron_moved]), _mean(overlaps, np.median)]
    values += [_mean(other.relus != reference.relus), _mean(other.pools != reference.pools)]
    return dict(zip(RANKINGS + MAPS + FLIPS, map(float, values), strict=True))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (top, bottom, left, right)."""
    sides = np.minimum(a[..., 1::2], b[..., 1::2]) - np.maximum(a[..., ::2], b[..., ::2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    return shared / (sum((box[..., 1::2] - box[..., ::2]).prod(axis=-1) for box in (a, b)) - shared)


def _mean(values: np.ndarray, mean: Callable[..., Any] = np.mean) -> float:
    return mean(values) if values.size else np.nan


def spread(files: Sequence[ImageFile], count: int) -> list[ImageFile]:
    """The first `count` images, taken in turn from each label of each category of each generator."""
    turns: collections.Counter[Any] = collections.Counter()

    def turn(file: ImageFile) -> int:
        turns[file.generator, file.category, file.label] += 1
        return turns[file.generator, file.category, file.label]

    return sorted(files, key=turn)[:count]


def load(weights: str) -> tuple[str, Model]:
    """Name and network of `FILE` or `FILE=NORMALIZATION`."""
    path, _, name = weights.partition("=")
    variables, facts = to_flax(checkpoint.read_state_dict(path))
    graph = assumed(facts.architecture, facts.convention)
    card = Card(facts.architecture, facts.num_outputs, graph, NORMALIZATIONS[name or "imagenet"])
    return Path(path).stem, Model(module_of(card), jax.tree.map(jnp.asarray, variables), card)


def kept(path: Path, request: str, compute: Callable[[], Measured]) -> Measured:
    """What the file holds for the same request, or else what is computed now."""
    if path.exists():
        with np.load(path) as archive:
            if archive["request"].item() == request:
                return Measured(*(archive[name] for name in Measured._fields))
    measured = compute()
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, request=request, **measured._asdict())
    return measured


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Two tables: of rankings, and of maps."""
    tables = []
    for columns in (RANKINGS, MAPS + FLIPS):
        lines = [["network", "format", *columns], ["---"] * (2 + len(columns))]
        lines += [[row["network"], row["format"], *(f"{row[column]:.3g}" for column in columns)] for row in rows]
        tables.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(tables).replace(" nan ", " - ")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", required=True, metavar="FILE[=NORMALIZATION]")
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="folders that hold the generators")
    parser.add_argument("--images", type=int, default=10**6, help="at most so many, spread over generators and labels")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="4 images of 64 pixels, LRP-max on one")
    options = parser.parse_args(arguments)
    count, side, few = (4, 64, 1) if options.quick else (options.images, 224, 8)
    options.out.mkdir(parents=True, exist_ok=True)
    files = spread(find_images(options.data), count)
    pixels = np.stack([Transform(crop=side)(decode(file.path)) for file in files])
    rows = []
    for weights in options.weights:
        network, model = load(weights)
        images = normalize(pixels, model.card.normalization)
        reference = None
        print(f"{network}: {len(images)} images", flush=True)
        for format in FORMATS:
            path = options.out / f"{network}-{format.name.replace(' ', '-')}.npz"
            request = json.dumps([weights, hashlib.sha256(pixels).hexdigest(), few, dataclasses.asdict(format)])
            measured = kept(path, request, functools.partial(measure, model, images, few, format, reference))
            reference = reference or measured
            if measured is reference:
                continue
            row = compare(reference, measured, relative_names(files))
            rows.append({"network": network, "format": format.name, "images": len(files)} | row)
            for file, text in (("precision.md", markdown(rows)), ("precision.json", json.dumps(rows, indent=2) + "\n")):
                with replace_file(options.out / file) as temporary:
                    temporary.write_text(text)
    print(markdown(rows))


if __name__ == "__main__":
    main()
