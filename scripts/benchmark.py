"""Compare tffjax with PyTorch side by side in one process: forward passes and LRP.

    python scripts/benchmark.py                      both networks, batch 16, 224x224
    python scripts/benchmark.py --only lrp --arch resnet50 --batch 8
    python scripts/benchmark.py --memory             peak memory of each pass, each in a process of its own

Contenders take turns, A B C A B C ...; after a warm-up the median of several rounds counts, so that a machine that is
slow for a while is slow for all. Only ratios within one run mean anything on a shared machine. Needs tffjax[benchmark].
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from gpu.contenders import zennit_run
from tffjax.conversion import twin, twin_lrp

import tffjax
from tffjax.compile.logits import logits_of
from tffjax.kernels.choice import XLA
from tffjax.lrp.explain import relevance
from tffjax.nn import EfficientNetB0, Model, Plain, ResNet50, network_of

GFLOP = {"resnet50": 8.2, "efficientnet_b0": 0.78}
"""Multiplications and additions of one forward pass at 224x224, in billions."""


def contenders(arch: str, batch: int, size: int) -> dict[str, Callable[[], Any]]:
    """Name -> a function that runs one pass to its end."""
    model, net = random_model(arch)
    images = np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)
    x = jnp.asarray(images)
    nchw = torch.from_numpy(images).permute(0, 3, 1, 2)
    plain_x, last_x = nchw.contiguous(), nchw.contiguous(memory_format=torch.channels_last)
    last_net = twin.canonize(net).to(memory_format=torch.channels_last)
    folded_net = twin.canonize(net)
    plain, explaining = tffjax.prepare(model), tffjax.prepare(model, "beta0")
    native = jax.jit(lambda model, x: model(x, Plain(kernels=XLA)))

    def torch_forward(net: torch.nn.Module, x: torch.Tensor) -> None:
        with torch.no_grad():
            net(x)

    def torch_gradient(net: torch.nn.Module, x: torch.Tensor) -> None:
        x = x.detach().requires_grad_()
        torch.autograd.grad(net(x).sum(), x)

    runs: dict[str, Callable[[], Any]] = {
        "forward: tffjax": lambda: logits_of(plain, x).block_until_ready(),
        "forward: tffjax, XLA's own convolutions": lambda: native(model, x).block_until_ready(),
        "forward: torch": lambda: torch_forward(net, plain_x),
        "forward: torch channels-last": lambda: torch_forward(net.to(memory_format=torch.channels_last), last_x),
        "lrp: tffjax": lambda: relevance(explaining, x).input.block_until_ready(),
        "lrp: tffjax with sums of all sites": lambda: jax.block_until_ready(relevance(explaining, x, sites=True).sites),
        "lrp: torch forward+backward (no LRP)": lambda: torch_gradient(folded_net, plain_x),
        "lrp: torch channels-last forward+backward (no LRP)": lambda: torch_gradient(last_net, last_x),
        "lrp: our PyTorch twin": lambda: twin_lrp.explain(net, plain_x),
    }
    if arch == "resnet50":
        runs["lrp: zennit"] = zennit_run(net, plain_x)
    return runs


def random_model(arch: str) -> tuple[Model, torch.nn.Module]:
    """A network with random weights in JAX and the same in PyTorch."""
    module = ResNet50() if arch == "resnet50" else EfficientNetB0()
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    net = twin.twin_from_variables(jax.tree.map(np.asarray, variables), arch, network_of(arch).conventions[0])
    return Model(module, variables), net


def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every contender, taking turns, after one warm-up each."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def report(arch: str, batch: int, size: int, times: dict[str, list[float]]) -> None:
    """Print seconds an image and ratios to our own forward pass, paired round by round."""
    floor = GFLOP[arch] * (size / 224) ** 2
    print(f"\n{arch}, batch {batch}, {size}x{size}, float32")
    print(f"{'':52}{'s/image':>9}{'min':>9}{'x forward':>11}{'GFLOP/s':>9}")
    base = next((name for name in times if name == "forward: tffjax"), next(iter(times)))
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times[base], strict=True))
        flops = floor * (1 if name.startswith("forward") else 3)
        median = statistics.median(values) / batch
        print(f"{name:52}{median:9.4f}{min(values) / batch:9.4f}{ratio:11.2f}{flops / median:9.0f}")
    for ours, theirs in (
        ("forward: tffjax", "forward: torch channels-last"),
        ("forward: tffjax", "forward: torch"),
        ("lrp: tffjax", "lrp: torch forward+backward (no LRP)"),
        ("lrp: tffjax", "lrp: torch channels-last forward+backward (no LRP)"),
        ("lrp: tffjax", "lrp: our PyTorch twin"),
        ("lrp: tffjax", "lrp: zennit"),
    ):
        if ours in times and theirs in times:
            speedup = statistics.median(b / a for a, b in zip(times[ours], times[theirs], strict=True))
            print(f"{ours} is {speedup:.2f} x as fast as {theirs.split(': ')[1]}")
    if "lrp: tffjax" in times and "forward: tffjax" in times:
        share = statistics.median(
            a / (3 * b) for a, b in zip(times["lrp: tffjax"], times["forward: tffjax"], strict=True)
        )
        print(f"lrp: tffjax takes {share:.2f} x three of our own forward passes")


def peak_memory(arch: str, batch: int, size: int) -> None:
    """Print the peak resident memory of every contender, each in a fresh process."""
    print(f"\npeak resident memory, {arch}, batch {batch}, {size}x{size}; 'start' is before the first pass")
    for name in contenders(arch, 1, 64):
        command = [sys.executable, __file__, "--arch", arch, "--batch", str(batch), "--size", str(size), "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:52} start {figures['start']:6.0f} MiB, peak {figures['peak']:6.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=list(GFLOP), action="append", help="default: both")
    parser.add_argument("--only", choices=["forward", "lrp"], help="default: both")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of times")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {jax.devices()}, torch threads {torch.get_num_threads()}, "
          f"jax {jax.__version__}, torch {torch.__version__}")  # fmt: skip
    for arch in options.arch or list(GFLOP):
        if options.memory:
            peak_memory(arch, options.batch, options.size)
            continue
        runs = contenders(arch, options.batch, options.size)
        if options.one:
            start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            for _ in range(3):
                runs[options.one]()
            print(json.dumps({"start": start, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
            return
        needed = ("forward: tffjax", options.only or "")
        runs = {name: run for name, run in runs.items() if name.startswith(needed)}
        report(arch, options.batch, options.size, measure(runs, options.rounds))


if __name__ == "__main__":
    main()
