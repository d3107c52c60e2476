"""Studies that run out of the device's memory: once more with batches of half the size."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from tffjax.cli.console import Talk
from tffjax.compile.devices import batch_that_fits, is_out_of_memory, why_out_of_memory
from tffjax.errors import InputError
from tffjax.pipeline.images import default_batch_size


def halving(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that takes `--batch-size` and, when a batch does not fit, halves it by itself, once.

    Raises:
        InputError: the half does not fit either, or the size cannot be changed: the run is resumed, or is a
            shard. Says which size fits.
    """

    @functools.wraps(command)
    def wrapped(*arguments: Any, **given: Any) -> Any:
        try:
            return command(*arguments, **given)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            first = error
        size = given["batch_size"] or default_batch_size()
        why = why_out_of_memory()
        if given.get("resume") or given.get("shard") or size < 2:
            raise InputError(_too_large(first, size, why, "start anew with")) from None
        Talk(given["quiet"]).warn(
            f"{size} images a batch do not fit the device's memory; going on with {size // 2}{why and f' ({why})'}"
        )
        again = {**given, "batch_size": size // 2}
        if "resume" in given:
            again["overwrite"] = True  # the run directory that was just made
        try:
            return command(*arguments, **again)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(_too_large(error, size // 2, why, "try")) from None

    return wrapped


def _too_large(error: BaseException, size: int, why: str, verb: str) -> str:
    way_out = why or f"{verb} --batch-size {batch_that_fits(error, size)}"
    return f"{size} images a batch do not fit the device's memory; {way_out}"
