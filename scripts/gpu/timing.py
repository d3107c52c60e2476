"""Timing of work that is sent off to a device."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any


def seconds(
    function: Callable[..., Any],
    *arguments: Any,
    wait: Callable[[Any], Any],
    rounds: int,
    at_least: float,
) -> float:
    """Median time of a call after two to warm up; `wait` returns when what a call has returned is there.

    A round is as many calls as take `at_least` seconds, sent off one after the other and waited for together.
    """
    wait(function(*arguments))
    start = time.perf_counter()
    wait(function(*arguments))
    calls = min(100, max(1, math.ceil(at_least / max(time.perf_counter() - start, 1e-6))))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = None
        for _ in range(calls):
            found = function(*arguments)
        wait(found)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)
