"""Numbers in sentences."""


def number_of(count: int, noun: str, spec: str = "") -> str:
    """A count with its noun: `1 image`, `24 images`."""
    return f"{count:{spec}} {noun}{'' if count == 1 else 's'}"


def fewer_channels(count: int, k: int) -> str:
    """What is said where fewer channels are there than were asked for; "" where they are enough."""
    if k <= count:
        return ""
    there = f"{number_of(count, 'channel')} {'is' if count == 1 else 'are'} there"
    return f"{there}, fewer than k = {k}: all of them are taken"
