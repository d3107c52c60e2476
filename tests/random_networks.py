"""Small random networks, each with its explanation by explicit matrices: NumPy and loops, nothing of the product.

A network is a list of steps over a list of arrays, of which the image is the first. It is drawn by computing it: the
steps' matrices are made on the way, and relevance goes back over them.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracles
import rule_oracles

IMAGES = 2
MOST_ENTRIES = 160  # of one array of one image: rules are Python loops over all pairs of inputs and outputs


class Step(NamedTuple):
    """One operation: its kind, the layer whose weights it has, numbers of the arrays that it reads, and the rest."""

    kind: str
    layer: str
    inputs: tuple[int, ...]
    options: tuple[tuple[str, Any], ...] = ()


class Back(NamedTuple):
    """How relevance goes back over a step, one image at a time: to the array `source`."""

    source: int
    target: int
    share: Callable[[int, np.ndarray], np.ndarray]


class Drawn:
    """A random network on its way.

    Attributes:
        steps, params: of the network; params as Flax has them.
        arrays: (images, h, w, c) or (images, c), the image first.
        backs: how relevance goes back over each step.
        rules: oracles of `rule_oracles` by field of a composite.
    """

    def __init__(self, seed: int, rules: dict[str, Callable[..., Any]]) -> None:
        self.rng, self.rules = np.random.default_rng(seed), rules
        size = tuple(self.rng.integers(4, 7, 2))
        self.arrays = [self.rng.standard_normal((IMAGES, *size, self.rng.integers(1, 4)))]
        self.steps, self.params, self.backs = [], {}, []
        for _ in range(self.rng.integers(2, 5)):
            self.rng.choice(BLOCKS)(self)
        if self.rng.integers(2):
            self.move("flatten", "flatten", self.last.reshape(IMAGES, -1), np.eye(self.last[0].size))
        else:
            self.average("mean", None)
        self.dense("out", 2)

    # What a step computes, and how relevance goes back

    @property
    def last(self) -> np.ndarray:
        return self.arrays[-1]

    @property
    def number(self) -> int:
        return len(self.arrays) - 1

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.steps)}"

    def choose(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def add_step(
        self, kind: str, layer: str, y: np.ndarray, inputs: tuple[int, ...], backs: list, **options: Any
    ) -> None:
        self.steps.append(Step(kind, layer, inputs, tuple(options.items())))
        self.arrays.append(y)
        self.backs += [Back(source, self.number, share) for source, share in zip(inputs, backs, strict=False)]

    def linear(
        self, kind: str, layer: str, matrix: np.ndarray, shape: tuple[int, ...], bias: Any, oracle: Any, **options: Any
    ) -> None:
        """A linear layer by its matrix; `oracle(matrix, bias, x, R)` is its rule."""
        x, source = self.last.reshape(IMAGES, -1), self.number
        spread = np.broadcast_to(0.0 if bias is None else bias, shape).ravel()

        def share(image: int, relevance: np.ndarray) -> np.ndarray:
            return np.array(oracle(matrix, spread, x[image], relevance.ravel()).received)

        self.add_step(kind, layer, (x @ matrix.T + spread).reshape(IMAGES, *shape), (source,), [share], **options)

    def move(self, kind: str, layer: str, y: np.ndarray, matrix: np.ndarray, **options: Any) -> None:
        """Something that hands relevance on by the transpose of a matrix of ones and zeros."""
        self.add_step(kind, layer, y, (self.number,), [lambda image, r: matrix.T @ r.ravel()], **options)

    def through(self, kind: str, y: np.ndarray, **options: Any) -> None:
        """Something that hands relevance through unchanged."""
        self.add_step(kind, self.name(kind), y, (self.number,), [lambda image, r: r.ravel()], **options)

    def weights(self, layer: str, shape: tuple[int, ...], use_bias: bool) -> tuple[np.ndarray, Any]:
        if layer not in self.params:
            kernel = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
            self.params[layer] = {"kernel": kernel}
            if use_bias:
                self.params[layer]["bias"] = 0.2 * self.rng.standard_normal(shape[-1])
        return self.params[layer]["kernel"], self.params[layer].get("bias")

    # Operations

    def convolution(
        self, layer: str | None = None, features: int | None = None, same: bool = False, transposed: bool = False
    ) -> None:
        h, w, channels = self.last.shape[1:]
        kind = "conv_transpose" if transposed else "conv"
        groups = 1 if same else self.choose(*(g for g in (1, 1, channels) if channels % g == 0))
        features = features or groups * int(self.rng.integers(1, 3 if groups > 1 else 5))
        kernel_size = (3, 3) if same else tuple(map(int, self.rng.integers(1, 4, 2)))
        stride = (1, 1) if same else tuple(map(int, self.rng.integers(1, 3, 2)))
        dilation = (1, 1) if same else tuple(map(int, self.rng.integers(1, 3, 2)))
        padding = ((1, 1), (1, 1)) if same else tuple(tuple(map(int, self.rng.integers(0, 2, 2))) for _ in range(2))
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = (*kernel_size, channels // groups, features)
        make = oracles.transposed_matrix if transposed else oracles.convolution_matrix
        extent = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        sizes = [
            (n - 1) * s + e - sum(p) if transposed else (n + sum(p) - e) // s + 1
            for n, s, e, p in zip((h, w), stride, extent, padding, strict=True)
        ]
        if min(sizes) < 1 or np.prod(sizes) * features > MOST_ENTRIES:
            return
        layer = layer or self.name(kind)
        kernel, bias = self.weights(layer, shape, bool(self.rng.integers(4)))
        matrix, out = make((h, w), kernel, **geometry)
        connected = make((h, w), np.ones(shape), **geometry)[0]
        oracle = self.rules["first" if self.number == 0 else "conv"]
        self.linear(
            kind,
            layer,
            matrix,
            out,
            bias,
            with_connections(oracle, connected),
            features=features,
            kernel_size=kernel_size,
            use_bias=bias is not None,
            **geometry,
        )

    def dense(self, layer: str, outputs: int) -> None:
        kernel, bias = self.weights(layer, (self.last.shape[1], outputs), True)
        oracle = with_connections(self.rules["dense"], np.ones(kernel.T.shape))
        self.linear("dense", layer, kernel.T, (outputs,), bias, oracle, features=outputs)

    def average(self, layer: str, window: Any, count_padding: bool = False, **geometry: Any) -> None:
        h, w, c = self.last.shape[1:]
        matrix, out = rule_oracles.average_pool_matrix(
            (h, w), c, window or (h, w), **geometry, count_padding=count_padding
        )
        if 0 in out:
            return
        out = out if window else (c,)
        self.linear(
            "average_pool",
            layer,
            matrix,
            out,
            None,
            self.rules["average_pool"],
            window=window,
            count_padding=count_padding,
            **geometry,
        )


def with_connections(oracle: Any, connected: np.ndarray) -> Any:
    """The flat rule takes which inputs reach which outputs in place of the weights."""
    flat = getattr(oracle, "func", oracle) is rule_oracles.flat
    return lambda matrix, bias, x, r: oracle(connected if flat else matrix, bias, x, r)


def convolution_block(net: Drawn) -> None:
    net.convolution()
    activation(net)


def transposed_block(net: Drawn) -> None:
    net.convolution(transposed=True)
    activation(net)


def activation(net: Drawn) -> None:
    name = net.choose("relu", "relu", "tanh", "leaky_relu", "silu")
    x = net.last
    y = {
        "relu": np.maximum(x, 0),
        "tanh": np.tanh(x),
        "leaky_relu": np.where(x < 0, 0.2 * x, x),
        "silu": x / (1 + np.exp(-x)),
    }[name]
    net.through("activation", y, function=name)


def residual_block(net: Drawn) -> None:
    """x + conv(x), where both are there; the convolution may have been used before."""
    source, channels = net.number, net.last.shape[-1]
    net.convolution(f"shared{channels}", features=channels, same=True)
    if net.number == source:
        return
    a, b = net.arrays[source], net.last
    epsilon = net.rules["add"]

    def share(which: int) -> Callable[[int, np.ndarray], np.ndarray]:
        def one(image: int, relevance: np.ndarray) -> np.ndarray:
            pairs = zip(a[image].ravel(), b[image].ravel(), relevance.ravel(), strict=True)
            return np.array([epsilon([[1.0, 1.0]], [0.0], [p, q], [r]).received[which] for p, q, r in pairs])

        return one

    net.add_step("add", net.name("add"), a + b, (source, net.number), [share(0), share(1)])


def dense_block(net: Drawn) -> None:
    """[x, conv(x)], concatenated."""
    source, x = net.number, net.last
    net.convolution(features=1, same=True)
    if net.number == source or x.size + net.last.size > IMAGES * MOST_ENTRIES:
        return
    y = np.concatenate([x, net.last], axis=3)
    split = x.shape[-1]
    backs = [lambda image, r: r[..., :split].ravel(), lambda image, r: r[..., split:].ravel()]
    net.add_step("concatenate", net.name("concatenate"), y, (source, net.number), backs)


def up_sampling_block(net: Drawn) -> None:
    h, w, c = net.last.shape[1:]
    factor = tuple(map(int, net.rng.integers(1, 3, 2)))
    kind = net.choose("nearest", "bilinear")
    if h * w * c * np.prod(factor) > MOST_ENTRIES:
        return
    matrix, out = oracles.upsampling_matrix((h, w), c, factor, kind == "bilinear")
    name = net.name("up")
    if kind == "bilinear":
        net.linear("upsample_bilinear", name, matrix, out, None, net.rules["average_pool"], factor=factor)
    else:
        y = (net.last.reshape(IMAGES, -1) @ matrix.T).reshape(IMAGES, *out)
        net.move("upsample_nearest", name, y, matrix, factor=factor)


def pool_block(net: Drawn) -> None:
    h, w, c = net.last.shape[1:]
    window, stride = (tuple(map(int, net.rng.integers(1, 4, 2))) for _ in range(2))
    padding = tuple((int(k > 1), int(k > 2)) for k in window)  # no window of padding only
    dilation = tuple(map(int, net.rng.integers(1, 3, 2)))
    geometry = {"stride": stride, "padding": padding, "dilation": (1, 1)}
    if net.rng.integers(2):
        net.average(net.name("average"), window, bool(net.rng.integers(2)), **geometry)
        return
    geometry["dilation"] = dilation
    sizes = [oracles.output_size(*axis) for axis in zip((h, w), window, *geometry.values(), strict=True)]
    if min(sizes) < 1:
        return
    x = net.last
    places = rule_oracles.winners  # its transpose: where each output comes from
    y, ones = np.empty((IMAGES, *sizes, c)), np.zeros((IMAGES, *sizes, c))
    for index in np.ndindex(*ones.shape[1:]):
        ones[(slice(None), *index)] = 1
        won = places(x, ones, window, **geometry) != 0
        y[(slice(None), *index)] = [x[image][won[image]][0] for image in range(IMAGES)]
        ones[(slice(None), *index)] = 0

    def share(image: int, relevance: np.ndarray) -> np.ndarray:
        return places(x[image : image + 1], relevance[None], window, **geometry).ravel()

    net.add_step("max_pool", net.name("max"), y, (net.number,), [share], window=window, **geometry)


def norm_block(net: Drawn) -> None:
    kind, x = net.choose("pixel_norm", "layer_norm", "group_norm"), net.last
    channels = x.shape[-1]
    if kind == "pixel_norm":
        return net.through(kind, x / np.sqrt((x**2).mean(axis=3, keepdims=True) + 1e-8))
    groups = net.choose(1, channels) if kind == "group_norm" else 1
    y = np.empty_like(x)
    for image, (start, *_) in itertools.product(range(IMAGES), np.split(np.arange(channels), groups)):
        here = (image, ..., slice(start, start + channels // groups))
        axes = (0, 1, 2) if kind == "group_norm" else (2,)
        mean, var = x[here].mean(axis=axes, keepdims=True), x[here].var(axis=axes, keepdims=True)
        y[here] = (x[here] - mean) / np.sqrt(var + 1e-3)
    scale, bias = net.rng.standard_normal(channels), net.rng.standard_normal(channels)
    layer = net.name(kind)
    net.params[layer] = {"scale": scale, "bias": bias}
    return net.through(kind, y * scale + bias, groups=groups)


BLOCKS = (convolution_block, convolution_block, transposed_block, residual_block, residual_block, dense_block)
BLOCKS = (*BLOCKS, up_sampling_block, pool_block, pool_block, norm_block)


def explained(net: Drawn, output: int) -> list[np.ndarray]:
    """The relevance of every array, that of one output being 1."""
    relevance = [np.zeros(array.shape) for array in net.arrays]
    relevance[-1][:, output] = 1
    for back in sorted(net.backs, key=lambda back: -back.target):
        for image in range(IMAGES):
            received = back.share(image, relevance[back.target][image])
            relevance[back.source][image] += received.reshape(relevance[back.source][image].shape)
    return relevance
