"""Parts 1 to 3: what machine this is, whether its numbers are right, and whether they are always the same."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpu import networks
from gpu.work import Rows, Setup
from tffjax.compile.passes import compiler_options
from tffjax.data.preprocessing import normalize
from tffjax.kernels import precision as precisions
from tffjax.kernels.convolution import Geometry
from tffjax.lrp.explain import relevance
from tffjax.lrp.linear import Conv
from tffjax.nn import Model, canonize
from tffjax.nn.card import Normalization
from tffjax.studies.ffrs.statistic import Shares, relevance_shares

LIMITS = {  # in float32, from the golden outputs' own notes: ResNet-50, EfficientNet-B0
    "logit, absolute": (5e-4, 5e-4),
    "relevance map, relative L2": (1e-2, 1e-3),
    "FF-RS, absolute": (1.5e-4, 5e-4),
    "dropout logit, absolute": (1e-3, 1e-3),
    "maximal activation, relative": (1e-4, 1e-4),
    "LRP-max map, relative L2": (1e-3, 1e-3),
}


def environment(setup: Setup) -> Rows:
    """Device, driver, versions and flags."""
    device = jax.devices()[0]
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "compute capability": getattr(device, "compute_capability", ""),
        "driver": _command("nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "platform version": jax.extend.backend.get_backend().platform_version.replace("\n", ", "),
    }
    for package in ("jax", "jaxlib", "flax", "torch", "numpy", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for what, value in facts.items():
        yield "environment", {"what": what, "value": str(value)}


def relevances(setup: Setup, name: str, formats: tuple[str, ...]) -> Rows:
    """Logits, relevance maps and FF-RS of the golden images against the golden numbers."""
    title = networks.NETWORKS[name].title
    for size in (64,) if setup.quick else (224, 64):
        for chosen in formats:
            if setup.quick and (name != "resnet50" or chosen not in precisions.PRECISIONS):
                continue
            try:
                errors = _relevance_errors(setup, name, size, chosen)
            except (precisions.InputError, jax.errors.JaxRuntimeError) as error:
                yield "correctness", {"network": title, "size": size, "precision": chosen, "what": str(error)[:120]}
                continue
            for what, error in errors.items():
                yield "correctness", _judged(name, size, chosen, what, error)


def _relevance_errors(setup: Setup, name: str, size: int, chosen: str) -> dict[str, float]:
    if setup.quick:
        return _small_errors(chosen)
    golden, prefix = _golden(setup, name), "" if size == 224 else "small_"
    with jax.enable_x64(chosen == "float64"):
        dtype = jnp.float64 if chosen == "float64" else jnp.float32
        model = canonize(networks.golden_model(name, setup.goldens).astype(dtype), "reset")
        images = jnp.asarray(_images(setup, size), dtype)
        found = relevance(model, images, sites=True, precision="float32" if chosen == "float64" else chosen)
        sums = [np.asarray(site, np.float64) for site in found.sites.values()]
        maps, logits = np.asarray(found.input.sum(axis=3), np.float64), np.asarray(found.logits, np.float64)[:, 0]
    return _differences(maps, golden[f"{prefix}maps"], logits, golden[f"{prefix}folded_logits"], _ffrs(sums),
                        golden[f"{prefix}ffrs"])  # fmt: skip


def _small_errors(chosen: str) -> dict[str, float]:
    """The same of a small network against its own numbers in float64."""
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3))
    with jax.enable_x64(True):
        exact = relevance(networks.small_model().astype(jnp.float64), jnp.asarray(images), sites=True)
    found = relevance(networks.small_model(), jnp.asarray(images, jnp.float32), sites=True, precision=chosen)
    shares = [_ffrs([np.asarray(sums) for sums in r.sites.values()]) for r in (found, exact)]
    maps = [np.asarray(r.input, np.float64).sum(axis=3) for r in (found, exact)]
    return _differences(*maps, *(np.asarray(r.logits)[:, 0] for r in (found, exact)), *shares)


def _ffrs(sums: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([(s[:, 0] / s.sum(axis=(1, 2))[:, None]).mean(axis=0) for s in sums])


def _differences(maps: Any, true_maps: Any, logits: Any, true_logits: Any, ffrs: Any, true_ffrs: Any) -> dict[str, Any]:
    axes = (1, 2)
    norm = np.linalg.norm(maps - true_maps, axis=axes) / np.linalg.norm(true_maps, axis=axes)
    return {
        "logit, absolute": float(np.abs(logits - true_logits).max()),
        "relevance map, relative L2": float(norm.max()),
        "FF-RS, absolute": float(np.abs(ffrs - true_ffrs).max()),
        "top-114 kept": len(set(np.argsort(-ffrs)[:114]) & set(np.argsort(-true_ffrs)[:114])),
    }


def studies(setup: Setup, name: str) -> Rows:
    """Dropout, maximal activations and LRP-max of the golden images, float32."""
    from tffjax.studies.color.activations import max_activations
    from tffjax.studies.dropout.logits import masked_logits
    from tffjax.studies.dropout.settings import Setting
    from tffjax.studies.lrpmax.neurons import lrp_max
    from tffjax.studies.rankings import Channel, all_channels, parse_key

    if setup.quick:
        return
    golden, model = _golden(setup, name), networks.golden_model(name, setup.goldens)
    images = jnp.asarray(_images(setup, 224))
    keys = [parse_key(str(key)) for key in golden["dropout_keys"]]
    settings = [Setting(f"top {k}", tuple(keys[:k])) for k in (5, 27, 114)]
    found = masked_logits(model, images, settings)[:, :, 0]
    yield "correctness", _judged(name, 224, "float32", "dropout logit, absolute", _largest(found - golden["dropout"]))
    totals = {key.site: key.channels for key in all_channels(model)}
    channels = tuple(
        Channel(str(site), int(index), totals[str(site)])
        for site, index in zip(golden["sites"], golden["channels"], strict=True)
    )
    _, maxima = max_activations(model, images, channels)
    error = _largest((np.asarray(maxima) - golden["maxima"]) / golden["maxima"])
    yield "correctness", _judged(name, 224, "float32", "maximal activation, relative", error)
    shallow = [
        i for i, channel in enumerate(channels) if channel.site.startswith(("conv1", "layer1", "_conv", "_blocks.1."))
    ]
    found = lrp_max(canonize(model, "reset"), images[:1], [channels[i] for i in shallow])
    for place, pair in enumerate(shallow):
        true = golden["lrpmax_maps"][pair]
        error = float(np.linalg.norm(found.maps[0, place] - true) / max(np.linalg.norm(true), 1e-30))
        row = _judged(name, 224, "float32", "LRP-max map, relative L2", error)
        yield "correctness", row | {"what": f"LRP-max map of {channels[pair].site}, relative L2"}


def zeros(setup: Setup) -> Rows:
    """Denominators where all contributions are zero: a convolution that is clever would give rounding noise."""
    rng = np.random.default_rng(0)
    shapes = [  # height, input and output channels, kernel, stride, groups
        (8, 16, 16, 3, 1, 1),
        (8, 16, 16, 3, 1, 16),
    ] if setup.quick else [
        (112, 3, 64, 7, 2, 1),
        (56, 64, 64, 3, 1, 1),
        (56, 128, 128, 3, 2, 1),
        (28, 128, 128, 3, 1, 1),
        (14, 256, 256, 3, 1, 1),
        (7, 512, 512, 3, 1, 1),
        (56, 64, 256, 1, 1, 1),
        (112, 96, 96, 3, 2, 96),
        (28, 240, 240, 5, 1, 240),
    ]  # fmt: skip
    for height, inputs, outputs, size, stride, groups in shapes:
        x = np.abs(rng.normal(size=(64, height, height, inputs))).astype(np.float32)
        x[:, :, height // 2 :] = 0
        kernel = np.abs(rng.normal(size=(size, size, inputs // groups, outputs))).astype(np.float32)
        geometry = Geometry((stride, stride), ((size // 2, size // 2),) * 2, groups=groups)
        for chosen in precisions_here():
            z = np.asarray(jax.jit(Conv(geometry, chosen))(jnp.asarray(x), jnp.asarray(kernel)), np.float32)
            dead = z[:, :, -(-(height // 2 + size // 2) // stride) + 1 :]
            yield (
                "exactness",
                {
                    "what": f"zero denominators, {size}x{size}, {inputs} to {outputs} at {height}, stride {stride}, "
                    f"{groups} groups, {chosen}",
                    "result": f"{np.count_nonzero(dead)} of {dead.size} are not zero",
                },
            )


def batches(setup: Setup, name: str) -> Rows:
    """One image alone and in a batch of 128."""
    model, size, many = model_to_time(setup, name), (32 if setup.quick else 224), (8 if setup.quick else 128)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(many, size, size, 3)), jnp.float32)
    alone, together = (relevance(model, x, sites=True) for x in (images[:1], images))
    maps = np.asarray(alone.input[0]), np.asarray(together.input[0])
    yield (
        "exactness",
        {
            "what": f"relevance of one image alone and in a batch of {many}, {networks.NETWORKS[name].title}",
            "result": f"relative L2 {np.linalg.norm(maps[0] - maps[1]) / np.linalg.norm(maps[1]):.2g}, "
            f"{np.mean(maps[0] == maps[1]):.1%} of the pixels equal",
        },
    )


def same_bytes(setup: Setup, name: str) -> Rows:
    """Channel sums of the same images: in this process twice, and in other processes that compile anew."""
    title = networks.NETWORKS[name].title
    run = sums_of(setup, name)
    first = run()
    yield "exactness", {"what": f"{title}: the same program twice", "result": _compared(first, run())}
    if setup.quick:
        return
    fresh = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    deterministic = fresh | {"XLA_FLAGS": "--xla_gpu_exclude_nondeterministic_ops=true"}
    other = _in_process(setup, fresh, "sums_of", name)
    yield "exactness", {"what": f"{title}: another process", "result": _compared(first, other)}
    if jax.default_backend() == "gpu":
        a, b = (_in_process(setup, deterministic, "sums_of", name) for _ in range(2))
        what = f"{title}: two processes without nondeterministic operations"
        yield "exactness", {"what": what, "result": _compared(a, b)}


def sums_of(setup: Setup, name: str) -> Callable[[], np.ndarray]:
    """A function that explains some images and returns the sums of all channels."""
    model, size = model_to_time(setup, name), 32 if setup.quick else 224
    images = jnp.asarray(np.random.default_rng(1).normal(size=(16, size, size, 3)), jnp.float32)

    def explained(model: Model, images: jax.Array) -> dict[str, jax.Array]:
        return relevance(model, images, sites=True).sites

    explain = jax.jit(explained, compiler_options=compiler_options())
    return lambda: np.concatenate([np.asarray(s) for s in explain(model, images).values()], axis=2)


def _in_process(setup: Setup, environment: dict[str, str], function: str, *arguments: Any) -> np.ndarray:
    """What the function that `function(setup, *arguments)` returns gives in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.npy"
        code = (
            "import json, sys, numpy; from pathlib import Path; from gpu import checks; from gpu.work import Setup; "
            "goldens, out, quick, path, function, arguments = sys.argv[1:]; "
            "setup = Setup(Path(goldens), Path(out), quick == 'True'); "
            "numpy.save(path, getattr(checks, function)(setup, *json.loads(arguments))())"
        )
        given = [str(setup.goldens), str(setup.out), str(setup.quick), str(path), function, json.dumps(arguments)]
        scripts = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | environment | {"PYTHONPATH": scripts}
        subprocess.run([sys.executable, "-c", code, *given], env=environment, check=True)
        return np.load(path)


def _compared(a: np.ndarray, b: np.ndarray) -> str:
    digests = [hashlib.sha256(array.tobytes()).hexdigest()[:8] for array in (a, b)]
    if digests[0] == digests[1]:
        return "the same bytes"
    return f"different bytes; relative L2 {np.linalg.norm(a - b) / np.linalg.norm(b):.2g}, {np.mean(a == b):.1%} equal"


def model_of(setup: Setup, name: str) -> Model:
    """A golden network as trained; to rehearse, the small one."""
    return networks.small_model() if setup.quick else networks.golden_model(name, setup.goldens)


def model_to_time(setup: Setup, name: str) -> Model:
    """The same, canonized."""
    return canonize(model_of(setup, name))


def shares(model: Model, images: jax.Array, precision: str | None = None) -> Shares:
    """LRP with the sums of all sites, as `tffjax rank` runs it for fakes."""
    return relevance_shares(model, images, jnp.ones(len(images), jnp.int32), precision=precision)


def precisions_here() -> list[str]:
    found = []
    for name in precisions.PRECISIONS:
        try:
            precisions.check_precision(name)
        except precisions.InputError:
            continue
        found.append(name)
    return found


def _golden(setup: Setup, name: str) -> dict[str, np.ndarray]:
    with np.load(setup.goldens / f"{name}.npz") as archive:
        return dict(archive)


def _images(setup: Setup, size: int) -> np.ndarray:
    with np.load(setup.goldens / "images.npz") as archive:
        return normalize(archive[f"u8_{size}"], Normalization())


def _judged(name: str, size: int, chosen: str, what: str, error: float) -> dict[str, Any]:
    limit = LIMITS.get(what, (None, None))[name != "resnet50"] if chosen in ("float32", "float64") else None
    row = {"network": networks.NETWORKS[name].title, "size": size, "precision": chosen, "what": what, "error": error}
    return row | {"limit in float32": limit, "within": "" if limit is None else ("yes" if error <= limit else "NO")}


def _largest(differences: Any) -> float:
    return float(np.abs(np.asarray(differences)).max())


def _command(*arguments: str) -> str:
    if shutil.which(arguments[0]) is None:
        return ""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return done.stdout.strip().replace("\n", "; ")
