"""The blood cell images (BCCD), from a folder of yours or downloaded and verified.

364 real microscope images with red cells, white cells and platelets, in VOC form, MIT licence
(https://github.com/Shenggan/BCCD_Dataset).
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from darts_hpo.errors import DataError
from supernets.detection.readers import read_dataset
from supernets.detection.readers.builder import OnBadImage
from supernets.detection.records import DetectionData

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT_S = 60.0
# The symbolic link type in the upper half of a zip entry's external attributes (Unix mode bits).
_LINK, _TYPE_MASK = 0o120000, 0o170000


@dataclass(frozen=True)
class Archive:
    """A data set in a zip on the web, known by its content.

    The archive's own bytes are no reference: a host may pack the same files differently from one day to the
    next.

    Attributes:
        name: of the data set, and of its folder in the cache.
        url: of the zip.
        folder: last part of the path of the folder to take from it, wherever in the zip it lies.
        counts: number of files in each subfolder that is taken.
        digest: `content_digest` of the folder.
        max_bytes: larger downloads, and larger contents, are refused.
    """

    name: str
    url: str
    folder: str
    counts: Mapping[str, int]
    digest: str
    max_bytes: int = 200 * 2**20


BCCD = Archive(
    name="bccd",
    url="https://github.com/Shenggan/BCCD_Dataset/archive/d272fb1.zip",
    folder="BCCD",
    counts={"Annotations": 364, "JPEGImages": 364, "ImageSets/Main": 4},
    digest="59eb0d826c422ae58c4c46f2dac8de1af80c371950dbf0593d8aeb0c8f74f265",
)


def bccd(
    root: str | Path | None = None,
    *,
    download: bool = False,
    cache_dir: str | Path | None = None,
    on_bad_image: OnBadImage = "error",
) -> DetectionData:
    """The blood cell data set.

    Args:
        root: a folder that holds it; None takes it from the cache.
        download: fetch it into the cache if it is not there.
        cache_dir: None is ``$XDG_CACHE_HOME/darts-hpo``, by default ``~/.cache/darts-hpo``.
        on_bad_image: see `read_dataset`.

    Raises:
        DataError: neither a folder nor a download, or the download fails.
    """
    if root is None:
        folder = (Path(cache_dir).expanduser() if cache_dir else default_cache()) / BCCD.name
        if not folder.is_dir() and not download:
            raise DataError(
                "The blood cell images are not here; pass data.root=/path/to/BCCD_Dataset, "
                "or data.download=true (9 MB from github.com)."
            )
        root = fetch(BCCD, folder.parent)
    return read_dataset(root, "voc", on_bad_image=on_bad_image)


def default_cache() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darts-hpo"


def fetch(archive: Archive, cache_dir: Path) -> Path:
    """The data set's folder in the cache, downloaded and verified if it is not there yet.

    The folder appears complete or not at all: it is made under another name and renamed.

    Args:
        archive: what to fetch.
        cache_dir: made if missing.

    Raises:
        DataError: no connection, an unexpected content, or an archive that is unsafe to unpack.
    """
    target = cache_dir / archive.name
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{archive.name}-", dir=cache_dir) as scratch:
        packed, unpacked = Path(scratch) / "archive.zip", Path(scratch) / archive.folder
        _download(archive, packed)
        _extract(archive, packed, unpacked)
        _verify(archive, unpacked)
        try:
            unpacked.rename(target)
        except OSError:
            # Another process may have been first; its folder passed the same verification.
            if not target.is_dir():
                raise
    logger.info("downloaded %s to %s", archive.name, target)
    return target


def content_digest(folder: Path, subfolders: Mapping[str, int]) -> str:
    """SHA-256 over the sorted names and SHA-256 sums of the files directly in some subfolders.

    Args:
        folder: the data set.
        subfolders: its keys are taken.
    """
    total = hashlib.sha256()
    files = sorted(
        (file.relative_to(folder).as_posix(), file)
        for subfolder in subfolders
        for file in (folder / subfolder).iterdir()
        if file.is_file()
    )
    for name, file in files:
        total.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _download(archive: Archive, target: Path) -> None:
    remedy = f"Check the connection, or get the data set yourself and pass data.root=/path/to/{archive.folder}."
    try:
        with urllib.request.urlopen(archive.url, timeout=_TIMEOUT_S) as response, target.open("wb") as file:
            _copy_bounded(response, file, archive.max_bytes, archive.url)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"Could not download {archive.url} ({reason}). {remedy}") from error


def _copy_bounded(source: IO[bytes], target: IO[bytes], limit: int, name: str) -> int:
    """Copy and count bytes, and stop at a limit."""
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > limit:
            raise DataError(f"{name} is larger than the expected {limit >> 20} MiB at most; refused.")
        target.write(chunk)
    return copied


def _extract(archive: Archive, packed: Path, target: Path) -> None:
    """Unpack the wanted subfolders; entries that would land elsewhere are refused."""
    try:
        with zipfile.ZipFile(packed) as content:
            room = archive.max_bytes
            for entry in content.infolist():
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or entry.external_attr >> 16 & _TYPE_MASK == _LINK:
                    raise DataError(
                        f"The archive {archive.url} has the unsafe entry {entry.filename!r}; refused. "
                        "Get the data set elsewhere and pass data.root."
                    )
                relative = _below(path, archive.folder)
                if entry.is_dir() or relative is None or relative.parent.as_posix() not in archive.counts:
                    continue
                file = target / relative
                file.parent.mkdir(parents=True, exist_ok=True)
                with content.open(entry) as source, file.open("wb") as destination:
                    room -= _copy_bounded(source, destination, room, f"The content of {archive.url}")
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive.url} gave no intact zip file ({error}); try again, or pass data.root.") from error


def _below(path: PurePosixPath, folder: str) -> PurePosixPath | None:
    """The path below the first folder of that name; None if it does not lie there."""
    parts = path.parts[:-1]
    return path.relative_to(*path.parts[: parts.index(folder) + 1]) if folder in parts else None


def _verify(archive: Archive, folder: Path) -> None:
    for subfolder, expected in archive.counts.items():
        place = folder / subfolder
        found = sum(1 for _ in place.iterdir()) if place.is_dir() else 0
        if found != expected:
            raise DataError(
                f"The download of {archive.name} has {found} files in {subfolder}, expected {expected}; "
                f"it was thrown away. Try again, or pass data.root=/path/to/{archive.folder}."
            )
    found_digest = content_digest(folder, archive.counts)
    if found_digest != archive.digest:
        raise DataError(
            f"The download of {archive.name} is not the data set expected (digest {found_digest[:12]}, "
            f"expected {archive.digest[:12]}); it was thrown away. Pass data.root=/path/to/{archive.folder}."
        )
