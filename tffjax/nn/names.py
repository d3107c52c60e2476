"""Names of operations that a network uses more than once.

A layer that is called twice, with the same weights, is two operations: each reads other values, may have another
geometry, and hands on relevance of its own. So the first use of a name in a run is `name`, the second `name@2`, and so
on, for operations and for what is announced to the tap.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable

_NUMBER = re.compile(r"@\d+$")


class Uses:
    """How often each name was used in a run of a network."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def next(self, name: str) -> str:
        """The name of another use."""
        self._counts[name] += 1
        return self.latest(name)

    def latest(self, name: str) -> str:
        """The name of the latest use."""
        count = self._counts[name]
        return name if count < 2 else f"{name}@{count}"


def layer_of(name: str) -> str:
    """The name that the network gives, without the number of the use."""
    return _NUMBER.sub("", name)


def near(name: str, known: Iterable[str]) -> str:
    """For messages about a name that there is not: the known names like it, else the first few."""
    known = list(known)
    if close := difflib.get_close_matches(name, known):
        return f"there is {', '.join(close)}"
    return f"there are {', '.join(known[:3])}{', ...' if len(known) > 3 else ''}" if known else "there are none"
