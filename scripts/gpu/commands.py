"""Part 7: the product as its users run it, from the command line."""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu.work import Rows, Setup


def demo(setup: Setup) -> Rows:
    """`tffjax demo` with nothing compiled, and again; the channels that it finds."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache")}
        for what in ("nothing compiled before", "again"):
            out = Path(folder) / what.replace(" ", "-")
            command = [sys.executable, "-m", "tffjax", "demo", "--out", str(out)]
            if setup.quick:
                command.append("--dry-run")
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            row = {"command": f"tffjax demo, {what}", "s": time.perf_counter() - start, "code": done.returncode}
            if done.returncode:
                yield "commands", row | {"found": (done.stderr or done.stdout).strip()[-300:]}
                return
            for table in sorted(out.rglob("*.csv")):
                (setup.out / f"{table.parent.name}-{table.name}").write_bytes(table.read_bytes())
            yield "commands", row | {"found": _first_channels(out)}


def _first_channels(out: Path) -> str:
    """The five first channels of the demo's ranking."""
    tables = sorted(out.rglob("ranking_fake.csv"))
    if not tables:
        return ""
    with tables[0].open() as file:
        return ", ".join(row["key"] for row, _ in zip(csv.DictReader(file), range(5), strict=False))
