"""How far a training got: numbers for people, and everything that it takes to go on as if nothing had happened.

RUN/states/STEP/arrays/         Orbax: parameters, running statistics, Adam's moments, step
RUN/states/STEP/progress.json   epoch, batch, sums over the epoch, schedule, history

A state is written under a temporary name and renamed, then older ones are deleted.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from tffjax.errors import InputError
from tffjax.files import flush, reserve
from tffjax.training.schedule import Plateau
from tffjax.training.step import State


@dataclasses.dataclass(frozen=True)
class Validation:
    """What the validation images say: mean loss, accuracy at 0.5, AP, and the accuracies on real and fake images."""

    loss: float
    accuracy: float
    ap: float
    real: float
    fake: float


@dataclasses.dataclass(frozen=True)
class Epoch:
    """A row of the history.

    Attributes:
        epoch: from 1.
        rate: learning rate.
        loss, accuracy: mean over the training batches as they were seen, augmented, before each step.
        validation_loss, validation_accuracy, validation_ap, validation_real, validation_fake: see `Validation`.
        best: the best epoch so far.
    """

    epoch: int
    rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_ap: float
    validation_real: float
    validation_fake: float
    best: bool


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training got.

    Attributes:
        plateau: state of the schedule.
        batch: batches done in the current epoch.
        loss: sum of their losses.
        correct: number of their images that were told right.
        history: the finished epochs.
    """

    plateau: Plateau
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    history: tuple[Epoch, ...] = ()

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def best(self) -> Epoch | None:
        """The best epoch so far."""
        return next((epoch for epoch in reversed(self.history) if epoch.best), None)

    def over(self, epochs: int) -> bool:
        """Whether training is over after at most so many epochs."""
        return self.plateau.stopped or self.epochs >= epochs

    def after_batch(self, loss: float, correct: int) -> "Progress":
        """With one batch more."""
        return dataclasses.replace(self, batch=self.batch + 1, loss=self.loss + loss, correct=self.correct + correct)

    def after_epoch(self, validation: Validation, batch_size: int) -> "Progress":
        """With the current epoch finished."""
        best = self.best
        scores = (validation.accuracy, validation.ap)
        row = Epoch(
            epoch=self.epochs + 1,
            rate=self.plateau.rate,
            loss=self.loss / self.batch,
            accuracy=self.correct / (self.batch * batch_size),
            **{f"validation_{name}": value for name, value in dataclasses.asdict(validation).items()},
            best=best is None or scores > (best.validation_accuracy, best.validation_ap),
        )
        return Progress(plateau=self.plateau.after(validation.accuracy), history=(*self.history, row))


class States:
    """The states of a run, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: State, progress: Progress) -> None:
        """Write the state; then it is the latest and only one."""
        name = f"{int(state.step):09d}-{progress.epochs:06d}"
        temporary = self._folder.absolute() / f".{name}.tmp{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            reserve(temporary, sum(array.nbytes for array in jax.tree.leaves(_as_tree(state))))
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(temporary / "arrays", _as_tree(state))
            (temporary / "progress.json").write_text(json.dumps(dataclasses.asdict(progress)), encoding="utf-8")
            for file in (path for path in temporary.rglob("*") if path.is_file()):
                flush(file)
            shutil.rmtree(self._folder / name, ignore_errors=True)
            temporary.rename(self._folder / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for other in self._folder.iterdir():
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)

    def load(self, like: State) -> tuple[State, Progress] | None:
        """The latest state, with arrays of the shapes and types of `like`; None if there is none.

        Raises:
            InputError: it cannot be read.
        """
        names = [entry.name for entry in self._folder.glob("[0-9]*")] if self._folder.is_dir() else []
        if not names:
            return None
        folder = self._folder.absolute() / max(names)
        try:
            fields = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            progress = Progress(
                **{
                    **fields,
                    "plateau": Plateau(**fields["plateau"]),
                    "history": tuple(Epoch(**row) for row in fields["history"]),
                }
            )
            with ocp.StandardCheckpointer() as checkpointer:
                tree = checkpointer.restore(folder / "arrays", _as_tree(like))
        except Exception as error:  # Orbax raises many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"{folder}: damaged ({reason}); start another run") from None
        return State(**{**tree, "adam": jax.tree.unflatten(jax.tree.structure(like.adam), tree["adam"])}), progress

    def delete(self) -> None:
        """Delete all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _as_tree(state: State) -> dict[str, Any]:
    """The arrays in dicts and lists: what Orbax stores needs no class of ours or Optax' to be read."""
    return {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "adam": jax.tree.leaves(state.adam),
        "step": state.step,
    }
