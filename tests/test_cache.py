"""The cache of compiled programs, with damage in it."""

import os
import subprocess
import sys

import jax
import pytest

from tffjax.cli.main import _doubts_in_a_line
from tffjax.compile.cache import repair

PROGRAM = f"""
import jax
from {_doubts_in_a_line.__module__} import {_doubts_in_a_line.__name__}
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
with {_doubts_in_a_line.__name__}():
    print(int(jax.jit(lambda x: x + 1)(1)))
"""


def run(folder) -> str:
    """Standard error of a process that compiles a program."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder)}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "2\n"
    return ended.stderr


@pytest.mark.extended
def test_a_damaged_entry_is_said_once_and_made_again(tmp_path):
    assert run(tmp_path) == ""
    entries = {path: path.read_bytes() for path in tmp_path.glob("*-cache")}
    assert entries
    for path, content in entries.items():
        path.write_bytes(content[:100])
    told = run(tmp_path).splitlines()
    assert set(told) == {f"tffjax: an entry of the compilation cache in {tmp_path} was damaged; it is made again"}
    assert run(tmp_path) == ""


def test_only_the_damaged_program_is_forgotten(tmp_path):
    for name in ("jit_run-1-cache", "jit_other-2-cache"):
        (tmp_path / name).touch()
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        assert repair("Error reading persistent compilation cache entry for 'jit_run': error: -5") is not None
        assert repair("something else") is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert [path.name for path in tmp_path.iterdir()] == ["jit_other-2-cache"]
