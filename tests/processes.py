"""The command line as a process of its own, which saves after every batch, to be killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

IMPATIENT = """
import sys
import tffjax.pipeline.passes
from tffjax.cli.main import main
tffjax.pipeline.passes.SAVE_SECONDS = 0.0
sys.argv[0] = "tffjax"
main()
"""


def begin(*arguments) -> subprocess.Popen:
    """A process that does a command."""
    command = [sys.executable, "-c", IMPATIENT, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def killed(run: Path, number: int, draw: random.Random, *arguments) -> bool:
    """Begin a command, and kill -9 it some milliseconds after it began pass `number` of a run or saved it, up to three
    times; False if it ended before."""
    with begin(*arguments) as process:
        wait_for_change(run / "log.jsonl", process)
        for _ in range(draw.randint(0, 3)):
            wait_for_change(run / "work" / f"pass-{number}.npz", process)
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        assert process.wait() in (0, -signal.SIGKILL), process.stderr.read()
        return process.returncode == -signal.SIGKILL


def wait_for_change(path: Path, process: subprocess.Popen) -> None:
    """Until a file is written anew, or the process ends."""

    def written() -> int:
        try:
            return path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    before = written()
    while written() == before and process.poll() is None:
        time.sleep(0.001)
