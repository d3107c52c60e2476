"""Checkpoints: a folder with the weights (Orbax) and a card (JSON) that says what they are.

CHECKPOINT/card.json      tffjax.nn.card.Card
CHECKPOINT/weights/       Orbax, the float32 Flax variables
CHECKPOINT/files.json     SHA-256 of every file of the weights
"""

import dataclasses
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from tffjax.errors import GraphAssumed, InputError
from tffjax.files import from_json, read_text, reserve, sha256_of
from tffjax.nn.card import Card
from tffjax.nn.model import Model, module_of
from tffjax.nn.networks import network_of
from tffjax.places import look, new_folder


def save(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> Card:
    """Write a checkpoint: to a temporary name beside `path`, then renamed, so that it is whole or absent.

    Returns:
        The card as written, with the hash of the weights.

    Raises:
        InputError: the model has no card or not the weights that its card describes, or `path` exists and `overwrite`
            is off.
    """
    path = Path(path)
    if model.card is None:
        raise InputError(
            "a model without a card cannot be saved; give it one: dataclasses.replace(model, card=Card(...))"
        )
    check_free(path, overwrite)
    variables = jax.tree.map(np.asarray, model.variables)
    if difference := _difference(variables, _expected(model.card)):
        raise InputError(
            f"only the float32 weights of a {model.card.architecture} as trained, batch norms not folded, can be "
            f"saved: {difference}"
        )
    card = dataclasses.replace(model.card, weights_sha256=digest(variables))
    write(path, variables, card.to_json(), overwrite)
    return card


def check_free(path: Path, overwrite: bool) -> None:
    """Raise an InputError if `path` exists and `overwrite` is off, or if it is no checkpoint."""
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or pass --overwrite")
    if path.exists() and not (path / "card.json").is_file():
        raise InputError(f"{path} is not a checkpoint, so it is not overwritten; choose another name")


def write(path: Path, variables: Any, card: str, overwrite: bool) -> None:
    """Write variables and the text of their card, whole or not at all.

    Raises:
        InputError: as `check_free`; something else has come to be at `path` meanwhile, where it stays.
    """
    place = look(path, overwrite)  # first: it may give something its name again
    check_free(path, overwrite)
    with new_folder(place) as temporary:
        reserve(temporary, sum(array.nbytes for array in jax.tree.leaves(variables)))
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(temporary / "weights", variables)
        committed = temporary / "weights" / "commit_success.txt"
        if committed.exists():  # Orbax writes the path of this machine into it
            committed.write_text("Checkpoint commit was successful.\n", encoding="utf-8")
        (temporary / "card.json").write_text(card, encoding="utf-8")
        (temporary / "files.json").write_text(json.dumps(_hashes(temporary / "weights"), indent=1), encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Model:
    """Read a checkpoint written by `save` (or by `tffjax convert`).

    Raises:
        GraphAssumed: (a warning) the card leaves the graph open.
        InputError: no such checkpoint, a PyTorch file, a card of another major version, weights that are damaged,
            half-written or not those of the card's architecture.
    """
    path = Path(path)
    card = read_card(path)
    if card.doubt:
        warnings.warn(card.doubt, GraphAssumed, stacklevel=2)
    what = f"{card.architecture} with outputs: {card.num_outputs}"
    variables = read_variables(path, _expected(card), what, card.weights_sha256)
    return Model(module_of(card), variables, card)


def read_variables(path: Path, expected: Any, what: str, sha256: str) -> Any:
    """The variables of a checkpoint.

    Args:
        path: of the checkpoint.
        expected: their shapes and types.
        what: has such variables, in words.
        sha256: their `digest`.

    Raises:
        InputError: weights that are damaged, half-written or others.
    """
    _check_files(path)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore((path / "weights").absolute(), expected)
    except Exception as error:  # Orbax raises many kinds; the files are whole, so the card asks for other arrays
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f"{path}: the weights are not a {what} ({reason}); convert again") from None
    if _form(variables) != _form(expected):
        raise InputError(f"{path}: the weights are not a {what}, as the card says; convert again")
    if digest(variables) != sha256:
        raise InputError(f"{path}: the weights do not have the hash that the card states; convert again")
    return jax.tree.map(jnp.asarray, variables)


def read_card(path: Path) -> Card:
    """The card of a checkpoint folder.

    Raises:
        InputError: no checkpoint there, that of a generator, or a card that cannot be read.
    """
    text = read_card_text(path)
    try:
        return Card.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_card_text(path: Path) -> str:
    """The text of the card of a checkpoint folder, of a detector or of a generator.

    Raises:
        InputError: no checkpoint there, or a card that is no text.
    """
    if path.is_file():
        raise InputError(f"{path} is a file, not a tffjax checkpoint; convert it first: tffjax convert {path} OUT")
    if not path.is_dir():
        raise InputError(f"{path}: no such checkpoint")
    if not (path / "card.json").is_file():
        raise InputError(f"{path} is not a tffjax checkpoint: it has no card.json")
    try:
        return read_text(path / "card.json")
    except UnicodeDecodeError:
        raise InputError(f"{path}: the card is damaged; convert the checkpoint again") from None


def _expected(card: Card) -> Any:
    """Shapes and types of the variables that a card describes."""
    with jax.enable_x64(False):  # weights are float32 whatever the default
        image = jax.ShapeDtypeStruct((1, *network_of(card).image_size, 3), jnp.float32)
        return jax.eval_shape(module_of(card).init, jax.random.key(0), image)


def _form(variables: Any) -> Any:
    return jax.tree.map(lambda a: (tuple(a.shape), str(a.dtype)), variables)


def _difference(variables: Any, expected: Any) -> str:
    """The first leaf that has another shape or type than expected, or is one too many or few; empty if none is."""
    here, there = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {leaf.shape}"
         for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (variables, expected)
    )  # fmt: skip
    name = next((name for name in here | there if here.get(name) != there.get(name)), None)
    return f"{name} is {here.get(name, 'nothing')}, not {there.get(name, 'nothing')}" if name else ""


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def _check_files(path: Path) -> None:
    """Raise an InputError unless the weights' files are those that were written.

    Orbax would find out too, but its readers report from the background, file by file, long after the error.
    """
    try:
        expected = from_json(read_text(path / "files.json"))
        found = _hashes(path / "weights")
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    except (OSError, ValueError, AttributeError):
        wrong = ["files.json"]
    if wrong:
        more = f" and {len(wrong) - 1} more files" if len(wrong) > 1 else ""
        raise InputError(
            f"{path}: the weights are damaged, half-written or exchanged ({wrong[0]}{more} missing or changed); "
            "convert again"
        )


def digest(variables: Any) -> str:
    """SHA-256 over the path, dtype, shape and little-endian bytes of every array, in sorted order."""
    sha = hashlib.sha256()
    for key, leaf in sorted((jax.tree_util.keystr(k), v) for k, v in jax.tree_util.tree_leaves_with_path(variables)):
        array = np.ascontiguousarray(leaf)
        sha.update(f"{key}\0{array.dtype.str}\0{array.shape}\0".encode())
        sha.update(array.data)
    return sha.hexdigest()
