"""What a run waits for: images, or the device."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

FADING = 0.9
"""What a time counts for after the next batch: some ten batches are remembered."""


class Waiting:
    """Times the two things that a loop over batches waits for; as text, the one that it waits for longer.

    While one batch is computed the next ones are read, so that the time for reading counts only where the loop waits
    for it: if that is most of the time, more `--workers`, packed records or pixels help, and a faster device does not.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self.for_images = self.for_device = 0.0

    def reading(self, items: Iterable[T]) -> Iterator[T]:
        """The items; what it takes to get them is the time for reading."""
        iterator = iter(items)
        while True:
            begin = self._clock()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.for_images = FADING * self.for_images + self._clock() - begin
            self.for_device *= FADING
            yield item

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """What the block takes is the time for the device."""
        begin = self._clock()
        try:
            yield
        finally:
            self.for_device += self._clock() - begin

    def __str__(self) -> str:
        whole = self.for_images + self.for_device
        if not whole:
            return ""
        share = self.for_images / whole
        return f"{share:.0%} waiting for images" if share > 0.5 else f"{1 - share:.0%} waiting for the device"
