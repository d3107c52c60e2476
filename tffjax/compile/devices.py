"""Words for what can be wrong with a device: none where one was asked for, memory that is taken or too small."""

import contextlib
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from tffjax.errors import InputError

_ALLOCATION = re.compile(r"allocat\w* (?:a buffer of )?([\d.]+) ?(bytes|[KMGT]iB)?", re.IGNORECASE)
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class User(NamedTuple):
    """A process that holds memory of a GPU, in MiB."""

    pid: int
    memory: int


def require_devices() -> str:
    """Find the devices of this process.

    Returns:
        Why JAX cannot use a kind of device that it is installed for and goes on without; empty if all is well.

    Raises:
        InputError: JAX cannot start on what `JAX_PLATFORMS` asks for.
    """
    with _captured_log("jax") as lines:
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # the latter where a plugin fails (jax 0.12)
            lines = [*lines, *str(error).splitlines()[:1]]
            asked = os.environ.get("JAX_PLATFORMS", "")
            what = f"JAX_PLATFORMS={asked} asks for" if asked else "JAX looks for"
            raise InputError(
                f"{what} a device that cannot be used here ({lines[0][:200] if lines else 'JAX does not say why'}); "
                "install JAX for it, as in pip install 'jax[cuda13]', see whether nvidia-smi finds the GPU, or take "
                "JAX_PLATFORMS=cpu"
            ) from None
    return lines[0][:200] if lines else ""


def require_flags(flags: str, kept: Path | None) -> None:
    """See whether XLA takes its flags: it ends the process where it does not, so another one tries, once.

    Args:
        flags: the value of `XLA_FLAGS`.
        kept: a folder in which it is noted that this version of JAX takes them.

    Raises:
        InputError: it does not.
    """
    if not flags:
        return
    note = kept and kept / f"xla-flags-{hashlib.sha256(f'{jax.__version__} {flags}'.encode()).hexdigest()[:16]}"
    if note and note.exists():
        return
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = re.search(r"Unknown flag.*|Flag parsing failed", ended.stderr)
        why = said[0] if said else "XLA does not say why"
        raise InputError(f"XLA_FLAGS={flags} is refused ({why}); correct it, or unset XLA_FLAGS")
    if note:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()


@contextlib.contextmanager
def _captured_log(name: str) -> Iterator[list[str]]:
    """Keeps the reasons that errors of a logger give, instead of their tracebacks on the screen."""
    reasons: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = record.exc_info[1] if record.exc_info else None
            reasons.append(str(cause or record.getMessage()).splitlines()[0])

    logger, keep = logging.getLogger(name), Keep(logging.ERROR)
    others, propagates = logger.handlers[:], logger.propagate
    logger.handlers, logger.propagate = [keep], False
    try:
        yield reasons
    finally:
        logger.handlers, logger.propagate = others, propagates


def other_users(query: Callable[[], str] | None = None) -> list[User]:
    """Other processes that hold memory of the GPUs, the largest first; empty where that cannot be found out.

    Args:
        query: returns lines `pid, MiB`; by default nvidia-smi is asked.
    """
    found = []
    for line in (query or _nvidia_smi)().splitlines():
        numbers = re.findall(r"\d+", line)
        if len(numbers) >= 2 and int(numbers[0]) != os.getpid():
            found.append(User(int(numbers[0]), int(numbers[1])))
    return sorted(found, key=lambda user: -user.memory)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has too little memory for what was asked of it."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def batch_that_fits(error: BaseException, batch_size: int, limit: int | None = None) -> int:
    """About the largest batch, a power of two, that fits: memory grows with it, and `batch_size` asked for too much.

    Args:
        error: says how many bytes could not be allocated.
        batch_size: that did not fit.
        limit: bytes of the device that JAX may use; by default it is asked.
    """
    if limit is None:
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    found = _ALLOCATION.search(str(error))
    fits = max(1, batch_size // 2)
    if found and limit:
        needed = float(found[1]) * _UNITS.get(found[2] or "", 1)
        fits = min(fits, max(1, int(batch_size * limit / (2 * needed))))
    return 1 << (fits.bit_length() - 1)


def why_out_of_memory(query: Callable[[], str] | None = None) -> str:
    """A sentence on who else holds the device's memory; empty if nobody does."""
    users = other_users(query)
    if not users:
        return ""
    return (
        f"process {users[0].pid} holds {users[0].memory} MiB of it; wait for it, or give each run its part with "
        "XLA_PYTHON_CLIENT_MEM_FRACTION=0.45"
    )


def _nvidia_smi() -> str:
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
