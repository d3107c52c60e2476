"""Compiled programs that are kept between runs, in the folder `jax_compilation_cache_dir`."""

import re
from pathlib import Path

import jax

_DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '(\w+)'")


def repair(warning: str) -> str | None:
    """Where JAX warns that an entry of its cache is damaged, delete the entries of that program.

    JAX compiles the program again, but does not replace an entry that is there: it would warn in every run.

    Args:
        warning: what JAX warns of.

    Returns:
        What was done, in a line; None where the warning is about something else.
    """
    found, folder = _DAMAGED.search(warning), jax.config.jax_compilation_cache_dir
    if found is None or folder is None:
        return None
    for entry in Path(folder).glob(f"{found[1]}-*"):
        entry.unlink(missing_ok=True)
    return f"an entry of the compilation cache in {folder} was damaged; it is made again"
