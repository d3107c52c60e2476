"""Part 5: where the time of a pass goes, kernel by kernel, beside what memory alone would need."""

import csv
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tffjax
from gpu import networks
from gpu.checks import model_to_time, shares
from gpu.work import Rows, Setup
from tffjax.compile.passes import compiler_options

RUNS, SHOWN = 3, 12
_INSTRUCTION = re.compile(r"%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


def by_kernel(setup: Setup, name: str, batch: int, chosen: str) -> Rows:
    """LRP's operations by the time they take; all of them are written to `profile.csv`."""
    model, (size, batch) = model_to_time(setup, name), (32, 4) if setup.quick else (224, batch)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(batch, size, size, 3)), jnp.float32)
    prepared = tffjax.prepare(model, "beta0", precision=chosen, size=(size, size))
    compiled = jax.jit(shares).lower(prepared, images).compile(compiler_options())
    jax.block_until_ready(compiled(prepared, images))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(RUNS):
                jax.block_until_ready(compiled(prepared, images))
        times = _times(folder)
    total, instructions = sum(times.values()), _instructions(compiled.as_text())
    title = f"{networks.NETWORKS[name].title}, {chosen}"
    with (setup.out / "profile.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        for operation, milliseconds in sorted(times.items(), key=lambda item: -item[1]):
            writer.writerow([title, operation, f"{milliseconds:.4f}", *instructions.get(operation, ("", "", ""))])
    kinds: dict[str, float] = defaultdict(float)
    for operation, milliseconds in times.items():
        kinds[instructions.get(operation, ("", "other", ""))[1]] += milliseconds
    for kind, milliseconds in sorted(kinds.items(), key=lambda item: -item[1])[:SHOWN]:
        yield "time", {"pass": f"LRP of {title}", "operation": kind, "ms": milliseconds, "share": milliseconds / total}


def _times(folder: str) -> dict[str, float]:
    """Milliseconds of each instruction of the compiled program, of one run."""
    found: dict[str, float] = defaultdict(float)
    for path in Path(folder).rglob("*.xplane.pb"):
        for operation, nanoseconds in _events(path):
            found[operation] += nanoseconds / 1e6 / RUNS
    return dict(found)


def _events(path: Path) -> Iterator[tuple[str, float]]:
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    on_devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in on_devices or planes:
        for line in plane.lines:
            if line.name.startswith(("XLA", "Steps", "Framework", "Source", "Launch")):
                continue  # derived from the streams' events
            for event in line.events:
                operation = dict(event.stats).get("hlo_op")
                if operation is not None:
                    yield str(operation), event.duration_ns


def _instructions(text: str) -> dict[str, tuple[Any, ...]]:
    """(shape, kind, where it comes from) of each instruction."""
    found = {}
    for line in text.splitlines():
        match = _INSTRUCTION.match(line.strip().removeprefix("ROOT "))
        if match:
            operation, shape, kind, rest = match.groups()
            target = re.search(r'custom_call_target="([^"]*)"', rest)
            fused = re.search(r"kind=(\w+)", rest)
            origin = _OP_NAME.search(rest)
            kind = target.group(1) if target else f"{kind} {fused.group(1)}" if fused else kind
            found[operation] = shape, kind, origin.group(1) if origin else ""
    return found
