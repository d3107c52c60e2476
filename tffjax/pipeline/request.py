"""What a study is asked to do, apart from its own options."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError


class Shard(NamedTuple):
    """Part `index` of `count`, counted from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How images become batches; the result depends on all of it.

    Attributes:
        resize: the shorter side becomes so many pixels, or height and width what is given; None leaves them.
        crop: a square of this size is cut from the center; None leaves the image.
        random_crop: seed of random resized crops in place of it.
        batch_size: images a pass; None is what suits the device.
        max_shapes: more different image sizes are refused: each needs a compile.
        pad_to: images are filled up to multiples of so many pixels, and computed as if each were alone
            (`tffjax.nn.padded`); None leaves them.
        strict: an unreadable image ends the study.
        labels: names of the folders of the labels, as of `tffjax.data.find`.
    """

    resize: Resize | None = None
    crop: int | None = None
    random_crop: int | None = None
    batch_size: int | None = None
    max_shapes: int = 8
    pad_to: int | None = None
    strict: bool = False
    labels: str | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """Which images, and where the results go.

    Attributes:
        data: images, folders, lists, packed records, TFDS; see `tffjax.data.sources`.
        out: the run directory.
        reading: how images become batches.
        weights: where the model came from, for the record; None if from memory.
        resume: go on with the run at `out`, which must be there.
        overwrite: replace a run at `out`.
        dry_run: say what would be done, and stop.
        workers: images read at a time; None is one a core.
        shard: do this part only, below `out`; `tffjax.pipeline.shards.merge` brings the parts together.
    """

    data: tuple[Path, ...]
    out: Path
    reading: Reading = Reading()
    weights: Path | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    workers: int | None = None
    shard: Shard | None = None


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard that `I/N`, `auto` or `auto/N` means; I counts from 0.

    `auto` asks Slurm's array (SLURM_ARRAY_TASK_ID with _MIN and _COUNT), a Kubernetes indexed job
    (JOB_COMPLETION_INDEX; it does not know N: `auto/N`), or a TPU (TPU_WORKER_ID with TPU_WORKER_HOSTNAMES).

    Raises:
        InputError: none of these is set, or numbers that do not fit.
    """
    if match := re.fullmatch(r"(\d+)/(\d+)", text):
        return _checked(int(match[1]), int(match[2]), text)
    match = re.fullmatch(r"auto(?:/(\d+))?", text)
    if not match:
        raise InputError(f"--shard {text}: give I/N with I from 0 to N - 1, such as 0/8, or auto")
    count = int(match[1]) if match[1] else None
    try:
        index, known = _of_the_environment(environment)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"--shard {text}: the environment's numbers cannot be read ({error})") from None
    if count and known and count != known:
        raise InputError(f"--shard {text}: the environment says {known} shards; leave the number out")
    if not (count or known):
        raise InputError("--shard auto: a Kubernetes job does not know its number of shards; give --shard auto/N")
    return _checked(index, count or known or 0, text)


def _of_the_environment(environment: Mapping[str, str]) -> tuple[int, int | None]:
    if environment.get("SLURM_ARRAY_TASK_ID"):
        ids = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT")
        if missing := [name for name in ids if not environment.get(name)]:
            raise InputError(f"--shard auto: Slurm set SLURM_ARRAY_TASK_ID, but not {missing[0]}; give --shard I/N")
        task, first, last, count = (int(environment[name]) for name in ids)
        if last - first + 1 != count:
            raise InputError(
                f"--shard auto: the Slurm array has {count} tasks from {first} to {last}, with gaps; give --shard I/N"
            )
        return task - first, count
    if "JOB_COMPLETION_INDEX" in environment:
        return int(environment["JOB_COMPLETION_INDEX"]), None
    if "TPU_WORKER_ID" in environment and environment.get("TPU_WORKER_HOSTNAMES"):
        return int(environment["TPU_WORKER_ID"]), len(environment["TPU_WORKER_HOSTNAMES"].split(","))
    raise InputError(
        "--shard auto: none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and TPU_WORKER_ID (with TPU_WORKER_HOSTNAMES) "
        "is set; give --shard I/N"
    )


def _checked(index: int, count: int, text: str) -> Shard:
    if not 0 <= index < count:
        raise InputError(f"--shard {text}: shard {index} of {count} does not exist; I counts from 0 to N - 1")
    return Shard(index, count)
