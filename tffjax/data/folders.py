"""Folders of images: the files, their labels and generators by where they lie."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from tffjax.data.image_file import ImageFile
from tffjax.data.labels import LABELS
from tffjax.errors import InputError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
LABEL_FOLDERS: Mapping[str, Literal[0, 1]] = {"0_real": 0, "1_fake": 1}
"""Folder -> label, as in ForenSynths."""

OTHER_LABELS = ("real=nature,fake=ai", "real=real,fake=fake")
"""How other data sets call these folders; only told to people, never assumed."""

SPLITS = ("train", "val", "test")
"""Folders right above the labels that are neither a generator nor a class, as in GenImage."""


def parse_labels(text: str) -> dict[str, Literal[0, 1]]:
    """The folders of `real=NAME,fake=NAME`, which may be several for a label: `real=nature,real=0_real,fake=ai`.

    Raises:
        InputError: not of that form, a name twice, or a label without a folder.
    """
    names: dict[str, Literal[0, 1]] = {}
    for pair in text.split(","):
        label, equals, name = (word.strip() for word in pair.partition("="))
        if label not in LABELS or not equals or not name or name in names:
            raise InputError(
                f"--labels {text}: write real=NAME,fake=NAME with names of folders, as in {OTHER_LABELS[0]}"
            )
        names[name] = 0 if label == "real" else 1
    if len(set(names.values())) < 2:
        raise InputError(f"--labels {text}: name folders of both labels, as in {OTHER_LABELS[0]}")
    return names


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Images at and below a path.

    A folder may be laid out like ForenSynths, `<generator>/{0_real,1_fake}/x.png` or
    `<generator>/<class>/{0_real,1_fake}/x.png`, or in any other way; then labels and generators are unknown. A single
    folder between the given one and `0_real` is taken for the generator, not for a class: give the folder that holds
    the generators. If a given folder holds `0_real` and `1_fake` itself, or is one of them, or if a file in one of them
    is given, then the name of the folder around them is the generator. A folder `train`, `val` or `test` right above
    the labels counts for nothing.

    Links are followed. Hidden files and folders are left out, and so are other extensions (see `other_extensions`), but
    a file that is given itself is taken whatever its extension. A file that is met twice counts once.

    Attributes:
        path: a folder or an image.
        labels: names of the folders of the labels.
    """

    path: Path
    labels: Mapping[str, Literal[0, 1]]
    kind: ClassVar[str] = "files"

    def find(self) -> dict[str, ImageFile]:
        """As `tffjax.data.sources.Source`."""
        if self.path.is_dir():
            root, files = self.path, [path for path in _walk(self.path) if path.suffix.lower() in EXTENSIONS]
            if not files:
                raise InputError(_nothing_found(self.path))
        elif self.path.exists():
            root, files = self.path.parent, [self.path]
        else:
            raise InputError(f"{self.path}: no such file or folder")
        base = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow a link and lose its name
        real = root.resolve()
        found: dict[str, ImageFile] = {}
        for path in files:
            below = path.relative_to(root)
            found.setdefault(f"{real}/{below}", _describe(path, base, below.parts[:-1], self.labels))
        return found


def other_extensions(paths: Iterable[str | os.PathLike[str]]) -> dict[str, int]:
    """How many files of which other extension a `FolderSource` leaves out below these folders, most frequent first.

    Raises:
        InputError: a folder that cannot be listed.
    """
    folders = [path for path in map(Path, paths) if path.is_dir()]
    suffixes = (file.suffix.lower() for folder in folders for file in _walk(folder))
    return dict(collections.Counter(suffix for suffix in suffixes if suffix not in EXTENSIONS).most_common())


def label_hint(files: Iterable[ImageFile]) -> str | None:
    """The `--labels` that folders of images without a label seem to ask for; None if there is none."""
    above = {part for folder in {file.path.parent for file in files if file.label is None} for part in folder.parts}
    return next((text for text in OTHER_LABELS if set(parse_labels(text)) <= above), None)


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


def _describe(path: Path, base: Path, folders: tuple[str, ...], labels: Mapping[str, Literal[0, 1]]) -> ImageFile:
    """Label, generator and class of a file, from the folders between `base` (absolute) and the file."""
    if not labels.keys() & set(folders):
        if base.name not in labels:
            return ImageFile(path)
        base, folders = base.parent, (base.name, *folders)
    at = max(i for i, name in enumerate(folders) if name in labels)
    names = folders[:at]
    if names and names[-1] in SPLITS:
        names = names[:-1]
    elif not names and base.name in SPLITS:
        base = base.parent
    generator, category = (*(names or (base.name,))[-2:], "")[:2]
    return ImageFile(path, labels[folders[at]], generator, category)


def _nothing_found(folder: Path) -> str:
    others = other_extensions([folder])
    if ".array_record" in others:
        return f"{folder}: packed records without a manifest; end packing with the same tffjax pack command"
    ignored = ", ".join(
        f"{count} {suffix or 'without extension'}" for suffix, count in itertools.islice(others.items(), 5)
    )
    return (
        f"{folder}: no images in it or below; looked for {', '.join(EXTENSIONS)} in any folder (labels are known below "
        f"<generator>/0_real and <generator>/1_fake)" + (f"; left out: {ignored}" if ignored else "")
    )
