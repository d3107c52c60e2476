"""What FF-RS explains of a network with several outputs, which has no real and fake: the largest, or a class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from tffjax.errors import InputError
from tffjax.nn.class_names import output_text

Target = Literal["top", "label"] | int | None
"""`top`, the largest output of each image; `label`, that of the image's class (`tffjax.studies.classes.classes_of`);
the index of an output; None for a detector, whose images have a label, real or fake."""


def check_target(target: Target, outputs: int, label: str | None) -> None:
    """Raise an InputError unless the target fits a network with so many outputs, and `label` is not given with one."""
    if target is None:
        if outputs > 1:
            raise InputError(
                f"this network has {outputs} outputs, and rank explains one of them: give --target top (the largest of "
                "each image), --target label (that of its class) or --target INDEX"
            )
        return
    if outputs == 1:
        raise InputError(
            "--target is for networks with several outputs; this one has a logit, which is explained by the labels"
        )
    if label is not None:
        raise InputError(f"--label does nothing with --target {target}: it says real or fake, which are no classes")
    if target not in ("top", "label") and not (isinstance(target, int) and 0 <= target < outputs):
        raise InputError(f"--target {target}: give top, label, or an index from 0 to {outputs - 1}")


def target_name(target: Target) -> str:
    """Its name in tables and files: `top`, `label`, or `output_17`."""
    return str(target) if target in ("top", "label") else f"output_{target}"


def target_text(name: str, class_names: Sequence[str] | None) -> str:
    """What is explained, for people, by its name in tables."""
    if name in ("top", "label"):
        return "the largest output of each image" if name == "top" else "the output of each image's class"
    return output_text(int(name.removeprefix("output_")), class_names)


def explained_outputs(
    logits: Float[np.ndarray, "n outputs"], target: Target, classes: Int[np.ndarray, " n"] | None
) -> Int[np.ndarray, " n"]:
    """Index of the explained output of each image, of these classes; the first of equal ones is the largest."""
    if target == "label":
        return classes
    return logits.argmax(axis=1) if target == "top" else np.full(len(logits), target)
