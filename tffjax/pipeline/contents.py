"""What a run has read of its images: others in their place are noticed, in the run, when it goes on, and by `merge`.

RUN/work/contents.npz  `sha256` (n, 32) and `stamps` (n, 3), a row an image; a size of -1 where it was not read yet
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from tffjax.data import ImageFile
from tffjax.data.content import Content, Stamp
from tffjax.data.loading import THREADS
from tffjax.data.preprocessing import UnreadableImage
from tffjax.data.reading import known_content, stamp_of
from tffjax.errors import InputError
from tffjax.files import replace_file
from tffjax.pipeline.directory import WORK, Run, arrays_of

T = TypeVar("T")

CONTENTS = "contents.npz"
_A_TASK = 256  # to look at one file costs less than to hand it to a thread


class Contents:
    """What was read of each of a run's images, and when."""

    def __init__(self, files: Sequence[ImageFile]) -> None:
        self._files = files
        self._sha256 = np.zeros((len(files), 32), np.uint8)
        self._stamps = np.full((len(files), len(Stamp._fields)), -1, np.int64)

    def take(self, found: Mapping[int, Content]) -> None:
        """Add what was read of images, by their index.

        Raises:
            InputError: something else was read of one of them before.
        """
        for index, content in found.items():
            digest = np.frombuffer(content.sha256, np.uint8)
            if self._stamps[index, 0] >= 0 and (self._sha256[index] != digest).any():
                raise _replaced(self._files, [index])
            self._sha256[index], self._stamps[index] = digest, content.stamp

    def check(self) -> None:
        """See whether the images are still those that were read, by their stamps, or else by their bytes.

        Raises:
            InputError: one is another, or gone.
        """
        others = self._look(
            np.flatnonzero(self._stamps[:, 0] >= 0), lambda index: None if self._is_same(index) else index
        )
        if others:
            raise _replaced(self._files, others)

    def read_all(self) -> None:
        """Read those of the images that were not read yet; what cannot be read is left out."""
        self.take(dict(self._look(np.flatnonzero(self._stamps[:, 0] < 0), self._read)))

    def save(self, run: Run) -> None:
        """Write them into a run directory."""
        with replace_file(run.work / CONTENTS) as temporary, temporary.open("wb") as stream:
            np.savez(stream, sha256=self._sha256, stamps=self._stamps)

    def load(self, runs: Iterable[Run]) -> None:
        """Add what run directories know.

        Raises:
            InputError: two of them have read different images; a file is damaged.
        """
        for path in (run.path / WORK / CONTENTS for run in runs):
            if path.exists():
                self._add(path)

    def _add(self, path: Path) -> None:
        arrays = arrays_of(path, "delete it to take the images for those that were read before")
        sha256, stamps = arrays.get("sha256"), arrays.get("stamps")
        for array, like in ((sha256, self._sha256), (stamps, self._stamps)):
            if array is None or (array.shape, array.dtype) != (like.shape, like.dtype):
                raise InputError(f"{path}: of another number of images; start another run")
        known, new = self._stamps[:, 0] >= 0, stamps[:, 0] >= 0
        if differ := np.flatnonzero(known & new & (sha256 != self._sha256).any(axis=1)).tolist():
            raise _replaced(self._files, differ)
        self._sha256[new], self._stamps[new] = sha256[new], stamps[new]

    def _look(self, indices: np.ndarray, look: Callable[[int], T | None]) -> list[T]:
        """What is found at images, many at a time."""

        def found(part: np.ndarray) -> list[T | None]:
            return [look(index) for index in part.tolist()]

        with ThreadPoolExecutor(THREADS) as pool:
            parts = pool.map(found, np.split(indices, range(_A_TASK, len(indices), _A_TASK)))
            return [one for part in parts for one in part if one is not None]

    def _read(self, index: int) -> tuple[int, Content] | None:
        try:
            return index, known_content(self._files[index])
        except UnreadableImage:
            return None

    def _is_same(self, index: int) -> bool:
        file = self._files[index]
        return (file.stored is None and stamp_of(file) == tuple(self._stamps[index].tolist())) or self._has_bytes(index)

    def _has_bytes(self, index: int) -> bool:
        found = self._read(index)
        return found is not None and found[1].sha256 == self._sha256[index].tobytes()


def _replaced(files: Sequence[ImageFile], indices: Sequence[int]) -> InputError:
    more = f" (and {len(indices) - 1} more)" if len(indices) > 1 else ""
    return InputError(
        f"{files[indices[0]].path}{more}: no longer the image that this run has read; put it back, or start another run"
    )
