"""Numbers in sentences."""


def number_of(count: int, noun: str, spec: str = "") -> str:
    """A count with its noun: `1 image`, `24 images`."""
    return f"{count:{spec}} {noun}{'' if count == 1 else 's'}"
