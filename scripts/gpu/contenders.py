"""Part 4 in PyTorch: the same networks, plain forward and backward, and LRP by our twin and by zennit."""

import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from tffjax.conversion import twin, twin_lrp
from tffjax.conversion.graphs import assumed
from tffjax.conversion.variables import to_flax

from gpu.work import Rows, Setup
from tffjax.nn.card import Normalization

TITLES = {"resnet50": "ResNet-50", "efb0": "EfficientNet-B0"}
SIDE = 224
BACKWARD = "forward + backward to the images, no LRP"


def passes(setup: Setup, name: str, batch: int) -> Rows:
    """Eager PyTorch, channels-last: forward, and forward with the gradient of the images."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if setup.quick and name == "resnet50":
        return
    size, batch = (32, 2) if setup.quick else (SIDE, batch)
    net = _network(setup, name).to(device)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, 3, size, size)).astype(np.float32))
    last = images.to(device, memory_format=torch.channels_last)
    folded = twin.canonize(net).to(memory_format=torch.channels_last)
    eager = _Timer(setup, name, "torch, eager, channels-last", batch)
    for chosen in ("float32",) if setup.quick else ("float32", "tensorfloat32", "bfloat16"):
        _use(chosen)
        cast, x = (folded.bfloat16(), last.bfloat16()) if chosen == "bfloat16" else (folded, last)
        yield eager.row("forward", chosen, functools.partial(_forward, cast, x))
        yield eager.row(BACKWARD, chosen, functools.partial(_gradient, cast, x))


def relevance(setup: Setup, name: str, batch: int) -> Rows:
    """LRP by our twin, and by zennit where it knows the network's layers."""
    if setup.quick and name == "resnet50":
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, batch = (32, 2) if setup.quick else (SIDE, batch)
    net = _network(setup, name).to(device)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, 3, size, size)).astype(np.float32))
    x = images.to(device)
    for chosen in ("float32", "tensorfloat32") if device == "cuda" else ("float32",):
        _use(chosen)
        run = functools.partial(twin_lrp.explain, net, x)
        yield _Timer(setup, name, "our PyTorch twin", batch).row("LRP", chosen, run)
        if name == "resnet50" and importlib.util.find_spec("zennit"):
            yield _Timer(setup, name, "zennit", batch).row("LRP", chosen, zennit_run(net, x))


def compiled(setup: Setup, name: str, batch: int) -> Rows:
    """torch.compile: forward, and forward with the gradient of the images."""
    if setup.quick or not torch.cuda.is_available():
        return
    net = twin.canonize(_network(setup, name).cuda()).to(memory_format=torch.channels_last)
    images = np.random.default_rng(0).normal(size=(batch, 3, SIDE, SIDE)).astype(np.float32)
    x = torch.from_numpy(images).to("cuda", memory_format=torch.channels_last)
    faster, timer = torch.compile(net), _Timer(setup, name, "torch.compile, channels-last", batch)
    for chosen in ("float32", "tensorfloat32"):
        _use(chosen)
        yield timer.row("forward", chosen, functools.partial(_forward, faster, x))
        yield timer.row(BACKWARD, chosen, functools.partial(_gradient, faster, x))


def zennit_run(net: torch.nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """The same composite in zennit: ZPlus, Epsilon, Norm and ZBox on the twin with folded batch norms."""
    stand_in_for_torchvision()
    from zennit.attribution import Gradient
    from zennit.composites import NameMapComposite
    from zennit.rules import Epsilon, Norm, Pass, ZBox, ZPlus

    low, high = Normalization().bounds
    net = twin.canonize(net)
    kinds = {
        twin.Conv: ZPlus(stabilizer=1e-12, zero_params=["bias"]),
        torch.nn.Linear: Epsilon(epsilon=1e-6),
        twin.AveragePool: Norm(stabilizer=1e-6),
        torch.nn.ReLU: Pass(),
    }
    names = {kind: [n for n, m in net.named_modules() if isinstance(m, kind) and n != "conv1"] for kind in kinds}
    composite = NameMapComposite(
        [(["conv1"], ZBox(low=low, high=high, zero_params=["bias"])), *((names[k], rule) for k, rule in kinds.items())]
    )
    attributor = Gradient(model=net, composite=composite)
    return lambda: attributor(x.clone().requires_grad_(), torch.ones(len(x), 1, device=x.device))


def stand_in_for_torchvision() -> None:
    """Zennit imports torchvision for its canonizers, which are not used here: do without, or without a broken one."""
    try:
        importlib.import_module("torchvision")
    except Exception:  # one that was built for another PyTorch raises a RuntimeError
        blocks = {"Bottleneck": torch.nn.Module, "BasicBlock": torch.nn.Module}
        for module in ("torchvision", "torchvision.models", "torchvision.models.resnet"):
            sys.modules[module] = types.ModuleType(module)
        vars(sys.modules["torchvision.models.resnet"]).update(blocks)


def _network(setup: Setup, name: str) -> torch.nn.Module:
    from gpu.networks import NETWORKS, recipe

    architecture, seed, _ = NETWORKS[name]
    if setup.quick:
        return twin.EfficientNetB0(1)
    with np.load(setup.goldens / f"calib_{name}_{seed}.npz") as calibration:
        state_dict = recipe(setup.goldens / "make_weights.py").build(name, seed, dict(calibration))
    variables, facts = to_flax(state_dict)
    return twin.twin_from_variables(variables, architecture, assumed(facts.architecture, facts.convention))


def _use(chosen: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = chosen == "tensorfloat32"


def _forward(net: torch.nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        net(x)


def _gradient(net: torch.nn.Module, x: torch.Tensor) -> None:
    x = x.detach().requires_grad_()
    torch.autograd.grad(net(x).sum(), x)


class _Timer(NamedTuple):
    """Makes rows of the speed table for one network, contender and batch size."""

    setup: Setup
    name: str
    by: str
    batch: int

    def row(self, what: str, chosen: str, run: Callable[[], Any]) -> tuple[str, dict[str, Any]]:
        """How fast a pass is."""
        on_gpu = torch.cuda.is_available()
        row = {"network": TITLES[self.name], "pass": what, "by": self.by, "precision": chosen, "batch": self.batch}
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            each = self.setup.seconds(run, wait=lambda _: torch.cuda.synchronize() if on_gpu else None) / self.batch
        except RuntimeError as error:
            return "speed", row | {"products": f"failed: {str(error)[:200]}"}
        row["images/s"] = 1 / each
        if on_gpu:
            row["GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return "speed", row
