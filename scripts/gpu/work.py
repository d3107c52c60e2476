"""The programs of a GPU visit, in the order of their worth."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpu import timing
from tffjax.kernels.precision import PRECISIONS

Rows = Iterator[tuple[str, dict[str, Any]]]
"""(name of a table, row) pairs, given as they are found."""


class Setup(NamedTuple):
    """What programs are given.

    Attributes:
        goldens: folder of golden numbers.
        out: folder of results.
        quick: small networks and batches, to rehearse.
    """

    goldens: Path
    out: Path
    quick: bool

    def seconds(self, function: Callable[..., Any], *arguments: Any, wait: Callable[[Any], Any]) -> float:
        """Median time of a call; `wait` returns when what a call has returned is there."""
        rounds, at_least = (1, 0.0) if self.quick else (5, 0.15)
        return timing.seconds(function, *arguments, wait=wait, rounds=rounds, at_least=at_least)


class Work(NamedTuple):
    """A program: its part of the visit, name, and function `module:name` of (setup, *arguments).

    Attributes:
        kind: programs of one kind share a process; JAX and PyTorch do not.
        repeats: with small networks it only repeats what other programs do.
    """

    part: int
    name: str
    function: str
    arguments: tuple[Any, ...] = ()
    kind: str = "jax"
    repeats: bool = False

    def run(self, setup: Setup) -> Rows:
        """The rows that the program finds."""
        module, _, function = self.function.partition(":")
        return getattr(importlib.import_module(f"gpu.{module}"), function)(setup, *self.arguments)


_FLOAT32, _TF32, _BFLOAT16 = PRECISIONS

WORK = (
    Work(1, "environment", "checks:environment"),
    Work(5, "products and copies", "speed:floor"),
    Work(2, "ResNet-50, float32", "checks:relevances", ("resnet50", (_FLOAT32,))),
    Work(2, "EfficientNet-B0, float32", "checks:relevances", ("efb0", (_FLOAT32,)), repeats=True),
    Work(
        6,
        "EfficientNet-B0, LRP in other ways",
        "kernels:whole_pass",
        ("efb0", 128, _FLOAT32, ((), ("depthwise",))),
        repeats=True,
    ),
    Work(4, "ResNet-50, batch 128, float32 and TF32", "speed:passes", ("resnet50", 128, (_FLOAT32, _TF32))),
    Work(4, "ResNet-50, batch 128, bfloat16", "speed:passes", ("resnet50", 128, (_BFLOAT16,)), repeats=True),
    Work(4, "EfficientNet-B0, batch 128", "speed:passes", ("efb0", 128, PRECISIONS), repeats=True),
    Work(7, "decoding by threads and processes", "pipeline:decoding"),
    Work(7, "rank from files and records", "pipeline:rank", ("resnet50",)),
    Work(7, "tffjax demo", "commands:demo", kind="command"),
    Work(4, "dropout and color, ResNet-50", "speed:studies", ("resnet50",)),
    Work(4, "training step, ResNet-50", "speed:training", ("resnet50",)),
    Work(4, "LRP in PyTorch, ResNet-50", "contenders:relevance", ("resnet50", 128), "torch", repeats=True),
    Work(4, "PyTorch, ResNet-50", "contenders:passes", ("resnet50", 128), "torch", repeats=True),
    Work(4, "PyTorch, EfficientNet-B0", "contenders:passes", ("efb0", 128), "torch"),
    Work(5, "EfficientNet-B0, float32, by kernel", "profile:by_kernel", ("efb0", 128, _FLOAT32), repeats=True),
    Work(
        6,
        "EfficientNet-B0, LRP in other ways, bfloat16",
        "kernels:whole_pass",
        ("efb0", 128, _BFLOAT16, ((), ("depthwise",))),
        repeats=True,
    ),
    Work(4, "training step, EfficientNet-B0", "speed:training", ("efb0",), repeats=True),
    Work(4, "LRP-max, EfficientNet-B0's list", "speed:lrpmax", ("efb0",)),
    Work(4, "LRP-max, ResNet-50's list", "speed:lrpmax", ("resnet50",), repeats=True),
    Work(6, "LRP-max, ResNet-50, other batches", "speed:lrpmax_batches", ("resnet50",)),
    Work(6, "LRP-max, EfficientNet-B0, other batches", "speed:lrpmax_batches", ("efb0",), repeats=True),
    Work(2, "dropout, color and LRP-max, ResNet-50", "checks:studies", ("resnet50",), repeats=True),
    Work(
        6,
        "ResNet-50, LRP in other ways, float32",
        "kernels:whole_pass",
        ("resnet50", 128, _FLOAT32, ((), ("pointwise",), ("patches",), ("patches", "NCHW"))),
        repeats=True,
    ),
    Work(5, "ResNet-50, float32, by kernel", "profile:by_kernel", ("resnet50", 128, _FLOAT32)),
    Work(3, "the same bytes", "checks:same_bytes", ("resnet50",)),
    Work(3, "zero denominators", "checks:zeros"),
    Work(2, "ResNet-50, TF32 and bfloat16", "checks:relevances", ("resnet50", (_TF32, _BFLOAT16)), repeats=True),
    Work(2, "EfficientNet-B0, TF32 and bfloat16", "checks:relevances", ("efb0", (_TF32, _BFLOAT16)), repeats=True),
    Work(4, "LRP in PyTorch, EfficientNet-B0", "contenders:relevance", ("efb0", 128), "torch", repeats=True),
    Work(6, "prepared weights, autotuning, cache", "kernels:compiling", ("resnet50",)),
    Work(6, "3x3 and 1x1 convolutions, pool", "kernels:dense"),
    Work(6, "depthwise convolutions", "kernels:depthwise", repeats=True),
    Work(6, "strided transposes, stem", "kernels:transposes", repeats=True),
    Work(3, "batch 1 and batch 128", "checks:batches", ("resnet50",)),
    Work(2, "float64, ResNet-50", "checks:relevances", ("resnet50", ("float64",)), repeats=True),
    Work(4, "ResNet-50, LRP, other batches", "speed:batches", ("resnet50", PRECISIONS), repeats=True),
    Work(2, "dropout, color and LRP-max, EfficientNet-B0", "checks:studies", ("efb0",), repeats=True),
    Work(4, "dropout and color, EfficientNet-B0", "speed:studies", ("efb0",), repeats=True),
    Work(4, "EfficientNet-B0, LRP, other batches", "speed:batches", ("efb0", PRECISIONS), repeats=True),
    Work(
        6,
        "ResNet-50, LRP with Triton's dots",
        "kernels:whole_pass",
        ("resnet50", 128, _FLOAT32, (("Triton",),)),
        repeats=True,
    ),
    Work(4, "PyTorch, compiled, ResNet-50", "contenders:compiled", ("resnet50", 128), "torch", repeats=True),
)
