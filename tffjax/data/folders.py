"""Folders of images: the files, their labels and generators by where they lie.

Labels are 0 for real and 1 for fake (generated).
"""

import collections
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tffjax.errors import InputError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
LABEL_FOLDERS = {"0_real": 0, "1_fake": 1}


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image file and what its place in the folders says about it.

    Attributes:
        path: where it is, below the path that the user gave.
        label: 0 real, 1 fake, None unknown.
        generator: name of the generator, "" if unknown.
        category: object class, "" if there is none.
    """

    path: Path
    label: Literal[0, 1] | None = None
    generator: str = ""
    category: str = ""


def find_images(paths: Iterable[str | os.PathLike[str]]) -> tuple[ImageFile, ...]:
    """The images at and below the given paths, in the order of the paths and then of the names.

    A folder may be laid out like ForenSynths, `<generator>/{0_real,1_fake}/x.png` or
    `<generator>/<class>/{0_real,1_fake}/x.png`, or in any other way; then labels and generators are unknown. A single
    folder between the given one and `0_real` is taken for the generator, not for a class: give the folder that holds
    the generators. If a given folder holds `0_real` and `1_fake` itself, or is one of them, or if a file in one of them
    is given, then the name of the folder around them is the generator.

    Links are followed. Hidden files and folders are left out, and so are other extensions (see `other_extensions`), but
    a file that is given itself is taken whatever its extension. A file that is met twice counts once.

    Raises:
        InputError: a path that does not exist or cannot be listed, or a folder without images.
    """
    found: dict[Path, ImageFile] = {}
    for given in map(Path, paths):
        if given.is_dir():
            root, files = given, [path for path in _walk(given) if path.suffix.lower() in EXTENSIONS]
            if not files:
                raise InputError(_nothing_found(given))
        elif given.exists():
            root, files = given.parent, [given]
        else:
            raise InputError(f"{given}: no such file or folder")
        base = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow a link and lose its name
        real = root.resolve()
        for path in files:
            below = path.relative_to(root)
            found.setdefault(real / below, _describe(path, base, below.parts[:-1]))
    return tuple(found.values())


def relative_names(files: Sequence[ImageFile]) -> tuple[str, ...]:
    """Paths below the folder that is common to all, which identify images wherever that folder lies."""
    common = Path(os.path.commonpath([file.path.absolute().parent for file in files]))
    return tuple(file.path.absolute().relative_to(common).as_posix() for file in files)


def fingerprint(files: Sequence[ImageFile], names: Sequence[str]) -> dict[str, Any]:
    """What tells one list of images from another: how many, and a hash of `relative_names` and sizes in bytes."""
    listing = "".join(f"{name}\0{file.path.stat().st_size}\n" for name, file in zip(names, files, strict=True))
    return {"count": len(files), "sha256": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()}


def other_extensions(paths: Iterable[str | os.PathLike[str]]) -> dict[str, int]:
    """How many files of which other extension `find_images` leaves out below the given folders, most frequent first.

    Raises:
        InputError: a folder that cannot be listed.
    """
    folders = [path for path in map(Path, paths) if path.is_dir()]
    suffixes = (file.suffix.lower() for folder in folders for file in _walk(folder))
    return dict(collections.Counter(suffix for suffix in suffixes if suffix not in EXTENSIONS).most_common())


def label_warning(files: Sequence[ImageFile]) -> str | None:
    """One line on what cannot be computed because a label is missing; None if there are real and fake images."""
    counts = collections.Counter(file.label for file in files)
    if counts[0] and counts[1]:
        return None
    if not counts[0] and not counts[1]:
        return (
            f"none of the {len(files)} images has a label (no folder 0_real or 1_fake above it): "
            "AP, accuracies and the calibrated threshold cannot be computed, only probabilities"
        )
    present, missing = ("real", "fake") if counts[0] else ("fake", "real")
    return (
        f"all {counts[0] + counts[1]} labeled images are {present}: "
        f"AP, the calibrated threshold and the accuracy on {missing} images cannot be computed"
    )


def _walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder that are not hidden, by name; a link back to a folder above it is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, entry.is_dir()) for entry in listing if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(folder / name, (*above, real))
        else:
            yield folder / name


def _describe(path: Path, base: Path, folders: tuple[str, ...]) -> ImageFile:
    """Label, generator and class of a file, from the folders between `base` (absolute) and the file."""
    if not LABEL_FOLDERS.keys() & set(folders):
        if base.name not in LABEL_FOLDERS:
            return ImageFile(path)
        base, folders = base.parent, (base.name, *folders)
    at = max(i for i, name in enumerate(folders) if name in LABEL_FOLDERS)
    names = folders[:at] or (base.name,)
    generator, category = (*names[-2:], "")[:2]
    return ImageFile(path, LABEL_FOLDERS[folders[at]], generator, category)


def _nothing_found(folder: Path) -> str:
    others = other_extensions([folder])
    ignored = ", ".join(
        f"{count} {suffix or 'without extension'}" for suffix, count in itertools.islice(others.items(), 5)
    )
    return (
        f"{folder}: no images in it or below; looked for {', '.join(EXTENSIONS)} in any folder (labels are known below "
        f"<generator>/0_real and <generator>/1_fake)" + (f"; left out: {ignored}" if ignored else "")
    )
