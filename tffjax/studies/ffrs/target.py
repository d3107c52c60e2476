"""What FF-RS explains of a network with several outputs, which has no real and fake: the largest output, or a class."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from tffjax.errors import InputError

Target = Literal["top"] | int | None
"""`top`, the largest output of each image; the index of an output; None, the label of each image."""


def check_target(target: Target, outputs: int, label: str | None) -> None:
    """Raise an InputError unless the target fits a network with so many outputs, and `label` is not given with one."""
    if target is None:
        if outputs > 1:
            raise InputError(
                f"this network has {outputs} outputs, and rank explains one of them: give --target top (the largest of "
                "each image) or --target INDEX"
            )
        return
    if outputs == 1:
        raise InputError(
            "--target is for networks with several outputs; this one has a logit, which is explained by the labels"
        )
    if label is not None:
        raise InputError(f"--label does nothing with --target: output {target} is explained, whatever the label")
    if target != "top" and not (isinstance(target, int) and 0 <= target < outputs):
        raise InputError(f"--target {target}: give top, or an index from 0 to {outputs - 1}")


def target_name(target: Target) -> str:
    """Its name in tables and files: `top`, or `output_17`."""
    return "top" if target == "top" else f"output_{target}"


def explained_outputs(logits: Float[np.ndarray, "n outputs"], target: Target) -> Int[np.ndarray, " n"]:
    """Index of the explained output of each image; the first of equal ones is the largest."""
    return logits.argmax(axis=1) if target == "top" else np.full(len(logits), target)
