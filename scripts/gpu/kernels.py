"""Part 6: XLA's own way of an operation against the one that tffjax takes on CPUs, and what compiling costs."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tffjax
from gpu import networks
from gpu.checks import model_to_time, precisions_here, shares
from gpu.work import Rows, Setup
from tffjax.compile.passes import compiler_options
from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry
from tffjax.kernels.pooling import max_pool
from tffjax.kernels.precision import PRECISIONS
from tffjax.lrp.linear import Conv

BATCH = 64


def depthwise(setup: Setup) -> Rows:
    """Depthwise convolutions of EfficientNet-B0: height, channels, kernel, stride."""
    shapes = ((112, 32, 3, 1), (112, 96, 3, 2), (28, 240, 5, 1), (14, 672, 5, 1))
    for height, channels, size, stride in ((8, 8, 3, 1),) if setup.quick else shapes:
        geometry = _geometry(size, stride, channels)
        yield from _compare_conv(setup, height, channels, channels, size, geometry, ("depthwise",))


def transposes(setup: Setup) -> Rows:
    """Transposes of strided convolutions, the stem among them."""
    shapes = ((56, 128, 128, 3, 2), (224, 3, 64, 7, 2), (56, 256, 512, 1, 2))
    for height, inputs, outputs, size, stride in ((8, 4, 8, 3, 2),) if setup.quick else shapes:
        yield from _compare_conv(setup, height, inputs, outputs, size, _geometry(size, stride), ("phases", "pointwise"))


def dense(setup: Setup) -> Rows:
    """3x3 and 1x1 convolutions, forward and transposed, and the gradient of the maximum pool."""
    shapes = ((56, 64, 64, 3), (14, 256, 256, 3), (56, 64, 256, 1), (14, 1024, 256, 1))
    for height, inputs, outputs, size in ((8, 64, 64, 3),) if setup.quick else shapes:
        choice = "winograd" if size == 3 else "pointwise"
        yield from _compare_conv(setup, height, inputs, outputs, size, _geometry(size, 1), (choice,))
    height, channels, batch = (8, 4, 2) if setup.quick else (112, 64, BATCH)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, height, height, channels)), jnp.float32)
    geometry = Geometry((2, 2), ((1, 1), (1, 1)))

    def gradient(kernels: Kernels, x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: (max_pool(x, (3, 3), geometry, kernels) ** 2).sum())(x)

    yield (
        "kernels",
        _both_ways(setup, f"maximum pool, gradient, {height} px, {channels} channels", gradient, (x,), "max_pool"),
    )


def _compare_conv(
    setup: Setup, height: int, inputs: int, outputs: int, size: int, geometry: Geometry, choices: tuple[str, ...]
) -> Rows:
    rng, batch = np.random.default_rng(0), 2 if setup.quick else BATCH
    kernel = jnp.asarray(rng.normal(size=(size, size, inputs // geometry.groups, outputs)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(batch, height, height, inputs)), jnp.float32)
    for chosen in ("float32",) if setup.quick else ("float32", "tensorfloat32", "bfloat16"):
        s = jax.jit(Conv(geometry, chosen))(x, kernel)
        what = (
            f"{size}x{size}, {inputs} to {outputs}, {height} px, stride {geometry.stride[0]}, {geometry.groups} groups"
        )

        def values(kernels: Kernels, x: jax.Array, kernel: jax.Array, chosen: str = chosen) -> jax.Array:
            return Conv(geometry, chosen, kernels).values(x, kernel)

        def transpose(kernels: Kernels, s: jax.Array, kernel: jax.Array, chosen: str = chosen) -> jax.Array:
            return Conv(geometry, chosen, kernels).transposes(s, [kernel], x)[0]

        yield "kernels", _both_ways(setup, f"{what}, {chosen}", values, (x, kernel), *choices)
        yield "kernels", _both_ways(setup, f"transpose of {what}, {chosen}", transpose, (s, kernel), *choices)


def _both_ways(
    setup: Setup, what: str, function: Callable[..., Any], arguments: tuple[Any, ...], *choices: str
) -> dict[str, Any]:
    times = {}
    for way, on in (("XLA's own, ms", False), ("the other way, ms", True)):
        other = {choice: _turned(choice) for choice in choices if bool(getattr(kernels_of(), choice)) != on}
        kernels = dataclasses.replace(kernels_of(), **other)
        run = jax.jit(functools.partial(function, kernels))
        times[way] = 1e3 * setup.seconds(run, *arguments, wait=jax.block_until_ready)
    return {"operation": f"{what}, batch {len(arguments[0])}", **times}


OPTIONS = {"Triton": {"xla_gpu_enable_triton_gemm": True}, "NCHW": {"xla_gpu_force_conv_nchw": True}}
"""Ways of XLA's to compile, beside `tffjax.compile.passes.compiler_options`."""


def whole_pass(setup: Setup, name: str, batch: int, chosen: str, ways: tuple[tuple[str, ...], ...]) -> Rows:
    """LRP of a whole network as it is, and otherwise: each way names choices to turn over, or `OPTIONS`."""
    if chosen not in precisions_here():
        return
    model, (size, batch) = model_to_time(setup, name), (32, 4) if setup.quick else (224, batch)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(batch, size, size, 3)), jnp.float32)
    for way in ways[:2] if setup.quick else ways:
        changed = {choice: _turned(choice) for choice in way if choice not in OPTIONS}
        options = compiler_options()
        for option in OPTIONS.keys() & set(way):
            options = options | OPTIONS[option]
        prepared = tffjax.prepare(
            model, "beta0", precision=chosen, kernels=dataclasses.replace(kernels_of(), **changed), size=(size, size)
        )
        how = [f"{'with' if on else 'without'} {choice}" for choice, on in changed.items()]
        how += [f"with {option}" for option in way if option in OPTIONS]
        title = f"LRP of {networks.NETWORKS[name].title}, batch {batch}, {chosen}, {', '.join(how) or 'as chosen'}"
        start = time.perf_counter()
        try:
            compiled = jax.jit(shares).lower(prepared, images).compile(compiler_options=options)
            row = {"compiling, s": time.perf_counter() - start}
            row["ms"] = 1e3 * setup.seconds(compiled, prepared, images, wait=jax.block_until_ready)
        except jax.errors.JaxRuntimeError as error:
            row = {"failed": str(error)[:200]}
        yield "kernels", {"operation": title} | row


def _turned(choice: str) -> bool | tuple[str, ...]:
    """What a field of `Kernels` is when its choice is turned over: on for all precisions, or off."""
    now = getattr(kernels_of(), choice)
    return not now if isinstance(now, bool) else () if now else PRECISIONS


def compiling(setup: Setup, name: str) -> Rows:
    """Prepared weights or not; autotuning levels; compiling anew and from the cache."""
    model, size = model_to_time(setup, name), 32 if setup.quick else 224
    title = networks.NETWORKS[name].title
    wait = functools.partial(setup.seconds, wait=jax.block_until_ready)

    for batch in (2,) if setup.quick else (16, 128):
        images = jnp.asarray(np.random.default_rng(0).normal(size=(batch, size, size, 3)), jnp.float32)
        plain = jax.jit(shares, compiler_options=compiler_options())
        row = {"operation": f"LRP of {title}, batch {batch}, float32", "plain, ms": 1e3 * wait(plain, model, images)}
        prepared = tffjax.prepare(model, "beta0", size=(size, size))
        yield "compiling", row | {"weights prepared, ms": 1e3 * wait(plain, prepared, images)}
    lowered = jax.jit(shares).lower(model, images)
    levels = (("default", compiler_options()),) if jax.default_backend() != "gpu" else (
        ("default", compiler_options()), ("0", compiler_options() | {"xla_gpu_autotune_level": 0}),
    )  # fmt: skip
    before = jax.config.jax_enable_compilation_cache
    for level, options in levels:
        jax.config.update("jax_enable_compilation_cache", False)
        start = time.perf_counter()
        compiled = lowered.compile(compiler_options=options)
        row = {"operation": f"autotuning level {level}, batch {batch}", "compiling, s": time.perf_counter() - start}
        jax.config.update("jax_enable_compilation_cache", before)
        yield "compiling", row | {"plain, ms": 1e3 * wait(compiled, model, images)}


def _geometry(size: int, stride: int, groups: int = 1) -> Geometry:
    return Geometry((stride, stride), ((size // 2, size // 2),) * 2, groups=groups)
