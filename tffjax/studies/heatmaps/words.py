"""What stands beside the pictures of single decisions: names of files, titles, networks."""

import re

import numpy as np
from jaxtyping import Float

from tffjax.data import ImageFile
from tffjax.data.labels import label_word
from tffjax.nn.card import Card
from tffjax.studies.predictions import fake_probability

IMAGENET = 1000
OTHER = {"fake": "real", "real": "fake"}


def shown(file: ImageFile) -> str:
    """An image in words: generator, label, and the file's name."""
    words = " ".join(word for word in (file.generator, label_word(file.label)) if word)
    return f"{words}: {file.path.name}" if words else file.path.name


def file_label(number: int, file: ImageFile) -> str:
    """How names of an image's pictures begin: a number, generator, label, and the file's name."""
    words = (file.generator, file.category, label_word(file.label), file.path.stem)
    return "_".join([f"{number:03d}", *(re.sub(r"[^A-Za-z0-9.-]+", "-", word) for word in words if word)])


def kind_of(card: Card) -> str:
    """What a network is, in a word or two."""
    if card.num_outputs == 1:
        return "detector"
    return "ImageNet network" if card.num_outputs == IMAGENET else "classifier"


def class_name(card: Card, output: int) -> str:
    """An output of a classifier by its name, or its number where the card has no names."""
    names = getattr(card, "class_names", None)
    return str(names[output]) if names else f"output {output}"


def decision(card: Card, logits: Float[np.ndarray, " outputs"], output: int | None = None) -> str:
    """What a network says of an image, as far as it is explained: its probability that it is fake, or of an output."""
    if card.num_outputs == 1:
        return f"p(fake) = {fake_probability(logits, card)[0]:.3f}"
    index = int(logits.argmax()) if output is None else output
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return f"{class_name(card, index)}, p = {shares[index] / shares.sum():.3f}"


def direction(card: Card, negative: bool) -> str:
    """Which way the explained relevance points."""
    if card.num_outputs == 1:
        return f"evidence for {card.high_means if not negative else OTHER[card.high_means]}"
    return f"evidence {'against' if negative else 'for'} it"


def slug(heading: str) -> str:
    """A heading as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
