"""Numbers on the command line: what is out of range, or no number, is refused before any work."""

import math
from typing import Any

import click

BATCH_SIZE = click.IntRange(1, 65_536)
REPLICATES = click.IntRange(0, 10_000)
"""Of a bootstrap: its sums of a ResNet-50's channels take 0.2 MB a replicate."""

DRAWS = click.IntRange(0, 10_000)
SEED = click.IntRange(0, 2**32 - 1)
SIDE = click.IntRange(1, 10_000)
"""Of a square: as many pixels as an image may have (`tffjax.data.preprocessing.MAX_PIXELS`)."""

THREADS = click.IntRange(1, 256)
TOP = click.IntRange(1, 1_000)


class RealRange(click.FloatRange):
    """click.FloatRange, which takes NaN for a number in any range, and infinity for one in an open range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, which is finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
