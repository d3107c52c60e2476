"""run.json, the record of a run directory: what was asked of which weights and images, and in the end the results."""

import json
from pathlib import Path
from typing import Any

from tffjax.errors import InputError
from tffjax.files import RECORD, from_json, read_text, write_text


def read_record(path: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        InputError: `path` is not a run directory.
    """
    try:
        record = from_json(read_text(path / RECORD))
    except FileNotFoundError:
        raise InputError(f"{path} is not a run directory: it has no {RECORD}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path / RECORD}: cannot be read ({error}); start another run") from None
    kinds = {"command": str, "identity": dict, "paths": dict}
    if not isinstance(record, dict) or not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        raise InputError(f"{path / RECORD}: not the record of a run; start another run")
    return record


def identity_of(path: Path, command: str) -> dict[str, Any]:
    """What identifies a finished run of a command.

    Raises:
        InputError: `path` is not one.
    """
    record = read_record(path)
    if record["command"] != command or "results" not in record:
        raise InputError(f"{path} is not a finished run of tffjax {command}")
    return record["identity"]


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace run.json in a folder."""
    write_text(path / RECORD, json.dumps(record, indent=1) + "\n")


def is_done(path: Path) -> bool:
    """Whether a run directory holds its results; False where there is none.

    Raises:
        InputError: the record is damaged.
    """
    return (path / RECORD).is_file() and "results" in read_record(path)
