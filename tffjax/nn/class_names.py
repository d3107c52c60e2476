"""Names of a network's outputs: where they come from, and how an output is called for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tffjax.errors import InputError
from tffjax.files import from_json, read_text


def read_class_names(path: Path, count: int) -> tuple[str, ...]:
    """The names of `count` outputs, in their order.

    From a text file with a name on each line, or from JSON: a list of names; `{"0": "tench", ...}` or `{"tench": 0,
    ...}`. A name in JSON may be a list of synonyms, such as Keras' `["n01440764", "tench"]`; they are joined with `, `.

    Raises:
        InputError: no such file, not of that form, another number of names, or an empty one.
    """
    try:
        text = read_text(path).removeprefix("\ufeff")
        names = _of_json(from_json(text)) if path.suffix.lower() == ".json" else text.splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f'{path}: not names of classes; write one a line, or JSON: a list, {{"0": "tench"}} or {{"tench": 0}}'
        ) from None
    names = [name.strip() for name in names]
    if len(names) != count:
        raise InputError(f"{path}: has {len(names)} names, and the network has {count} outputs")
    if "" in names:
        raise InputError(f"{path}: the name of output {names.index('')} is empty")
    return tuple(names)


def output_text(index: int, names: Sequence[str] | None) -> str:
    """What people call an output: `output 285`, or `output 285 (Egyptian cat)` where names are known."""
    return f"output {index}" if names is None else f"output {index} ({names[index]})"


def output_of(text: str, names: Sequence[str] | None, count: int) -> int | None:
    """The one output that a text says: by its index, its name, or a synonym in it; None if no one or several are meant.

    Synonyms are what a name has between commas: `tench, Tinca tinca`.
    """
    found = {int(text)} if text.isdecimal() and int(text) < count else set()
    for index, name in enumerate(names or ()):
        if text == name or text in (synonym.strip() for synonym in name.split(",")):
            found.add(index)
    return found.pop() if len(found) == 1 else None


def _of_json(value: Any) -> list[str]:
    if isinstance(value, dict):
        by_index = all(key.isdecimal() for key in value)
        value = {int(key): name for key, name in value.items()} if by_index else {i: name for name, i in value.items()}
        value = [value[index] for index in range(len(value))]
    names = [", ".join(name) if isinstance(name, list) else name for name in value]
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    return names
