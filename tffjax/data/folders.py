"""Folders of images: the files, their labels and generators by where they lie."""

import collections
import dataclasses
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from tffjax.data.image_file import ImageFile
from tffjax.data.labels import LABELS
from tffjax.errors import InputError
from tffjax.files import is_run, utf8

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
LABEL_FOLDERS: Mapping[str, Literal[0, 1]] = {"0_real": 0, "1_fake": 1}
"""Folder -> label, as in ForenSynths."""

OTHER_LABELS = ("real=nature,fake=ai", "real=real,fake=fake")
"""How other data sets call these folders; only told to people, never assumed."""

NAMED = 5
"""Files that are left out are named up to here, and counted beyond."""

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
    a file that is given itself is taken whatever its extension. A file that is met twice counts once. Only regular
    files are read: no FIFO, device or socket, and no link to nothing. Run directories of tffjax below the folder are
    left out, so that their plots are not taken for images. `left_out` says what was left out and why.

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
            root, files = self.path, [entry.path for entry in _walk(self.path) if _is_image(entry)]
            if not files:
                raise InputError(_nothing_found(self.path))
        else:
            check_regular(self.path)
            root, files = self.path.parent, [self.path]
        base = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow a link and lose its name
        real = root.resolve()
        found: dict[str, ImageFile] = {}
        for path in files:
            below = path.relative_to(root)
            found.setdefault(f"{real}/{below}", _describe(path, base, below.parts[:-1], self.labels))
        return found


def check_regular(path: Path) -> None:
    """Refuse what cannot be read to an end: a FIFO, a device, a socket; and what is not there.

    Raises:
        InputError: `path` is neither a regular file nor a folder.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path}: {_kind(mode)}, not a file or folder; give images, or folders of them")


def other_extensions(paths: Iterable[str | os.PathLike[str]]) -> dict[str, int]:
    """How many files of which other extension a `FolderSource` leaves out below these folders, most frequent first.

    Raises:
        InputError: a folder that cannot be listed.
    """
    return _other_extensions(_entries(paths))


def left_out(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Lines on what a `FolderSource` leaves out: other extensions, what is no file, run directories.

    Raises:
        InputError: a folder that cannot be listed.
    """
    entries = _entries(paths)
    others = _other_extensions(entries).items()
    return [f"left out {count} files ending in {suffix or 'nothing'}" for suffix, count in others] + [
        f"left out {what}" for what in _named(entries)
    ]


def label_hint(files: Iterable[ImageFile]) -> str | None:
    """The `--labels` that folders of images without a label seem to ask for; None if there is none."""
    above = {part for folder in {file.path.parent for file in files if file.label is None} for part in folder.parts}
    return next((text for text in OTHER_LABELS if set(parse_labels(text)) <= above), None)


class _Entry(NamedTuple):
    """What a walk meets: a file, or something that is left out for a reason."""

    path: Path
    reason: str = ""
    is_run: bool = False


def _walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[_Entry]:
    """All that is below a folder and not hidden, by name; a link back to a folder above it is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    if above and is_run(folder):
        yield _Entry(folder, "a run directory of tffjax; to read it all the same, give it itself", is_run=True)
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, *_looked_at(entry)) for entry in listing if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None
    for name, is_folder, reason in entries:
        if is_folder:
            yield from _walk(folder / name, (*above, real))
        else:
            yield _Entry(folder / name, reason)


def _looked_at(entry: os.DirEntry[str]) -> tuple[bool, str]:
    """Whether an entry is a folder, and why it is not read if it is no regular file either."""
    try:
        if entry.is_dir():
            return True, ""
        return False, "" if entry.is_file() else _kind(entry.stat().st_mode)
    except FileNotFoundError:
        return False, "a link to nothing"
    except OSError as error:
        return False, error.strerror


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def _entries(paths: Iterable[str | os.PathLike[str]]) -> list[_Entry]:
    """What lies below those of the paths that are folders, without the images."""
    folders = [path for path in map(Path, paths) if path.is_dir()]
    return [entry for folder in folders for entry in _walk(folder) if not _is_image(entry)]


def _other_extensions(entries: Iterable[_Entry]) -> dict[str, int]:
    suffixes = (entry.path.suffix.lower() for entry in entries if not entry.is_run and not _has_extension(entry))
    return dict(collections.Counter(suffixes).most_common())


def _named(entries: Iterable[_Entry]) -> list[str]:
    """What has the name of an image and is none, and run directories, with the reason; the first ones of many."""
    named = [entry for entry in entries if entry.is_run or _has_extension(entry)]
    more = [f"{len(named) - NAMED} more like these"] if len(named) > NAMED else []
    return [f"{entry.path}: {entry.reason}" for entry in named[:NAMED]] + more


def _is_image(entry: _Entry) -> bool:
    return not entry.reason and _has_extension(entry)


def _has_extension(entry: _Entry) -> bool:
    return entry.path.suffix.lower() in EXTENSIONS


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
    return ImageFile(path, labels[folders[at]], utf8(generator), utf8(category))


def _nothing_found(folder: Path) -> str:
    entries = _entries([folder])
    others = _other_extensions(entries)
    if ".array_record" in others:
        return f"{folder}: packed records without a manifest; end packing with the same tffjax pack command"
    ignored = [f"{count} {suffix or 'without extension'}" for suffix, count in itertools.islice(others.items(), 5)]
    ignored += _named(entries)
    return (
        f"{folder}: no images in it or below; looked for {', '.join(EXTENSIONS)} in any folder (labels are known below "
        f"<generator>/0_real and <generator>/1_fake)" + (f"; left out: {', '.join(ignored)}" if ignored else "")
    )
