"""What stands beside the pictures of single decisions: names of files, titles, networks."""

import re

from tffjax.data import ImageFile
from tffjax.data.labels import label_word
from tffjax.files import shortened
from tffjax.nn.card import Card
from tffjax.results.generators import shown_name

OTHER = {"fake": "real", "real": "fake"}


def shown(file: ImageFile) -> str:
    """An image in words: generator, label, and the file's name."""
    generator = shown_name(file.generator) if file.generator else ""
    words = " ".join(word for word in (generator, label_word(file.label)) if word)
    return f"{words}: {file.path.name}" if words else file.path.name


def file_label(number: int, file: ImageFile) -> str:
    """How names of an image's pictures begin: a number, generator, label, and the file's name."""
    words = (file.generator, file.category, label_word(file.label), file.path.stem)
    return shortened("_".join([f"{number:03d}", *(re.sub(r"[^A-Za-z0-9.-]+", "-", word) for word in words if word)]))


def direction(card: Card, negative: bool) -> str:
    """Which way the explained relevance points."""
    if card.num_outputs == 1:
        return f"evidence for {card.high_means if not negative else OTHER[card.high_means]}"
    return f"evidence {'against' if negative else 'for'} it"


def slug(heading: str) -> str:
    """A heading as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
