"""Downloads: verified by content, safely unpacked, whole or not at all."""

import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darts_hpo.errors import DataError
from supernets.detection import download
from supernets.detection.download import BCCD, Archive, bccd, content_digest, fetch

DATA = Path(__file__).parents[3] / "../shared/data/bccd"


@pytest.fixture
def source(tmp_path):
    """A tiny data set in VOC form, in the layout of the real archive."""
    root = tmp_path / "source/Repo-abc/BCCD"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for i in range(6):
        Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)).save(root / f"JPEGImages/{i}.jpg")
        (root / f"Annotations/{i}.xml").write_text(
            "<annotation><object><name>RBC</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>12</ymax>"
            "</bndbox></object></annotation>"
        )
    (root / "ImageSets/Main/train.txt").write_text("0\n1\n2\n3\n")
    (root / "ImageSets/Main/val.txt").write_text("4\n")
    (root / "ImageSets/Main/test.txt").write_text("5\n")
    (root.parent / "README.md").write_text("not taken")
    return root


def pack(source, path):
    with zipfile.ZipFile(path, "w") as content:
        for file in sorted(source.parent.rglob("*")):
            content.write(file, file.relative_to(source.parent.parent).as_posix())
    return path


@pytest.fixture
def archive(source, tmp_path):
    counts = {"Annotations": 6, "JPEGImages": 6, "ImageSets/Main": 3}
    packed = pack(source, tmp_path / "packed.zip")
    return Archive("tiny", packed.as_uri(), "BCCD", counts, content_digest(source, counts))


def leftovers(cache):
    return sorted(p.name for p in cache.iterdir())


def test_fetched_verified_and_kept(archive, source, tmp_path):
    cache = tmp_path / "cache"
    folder = fetch(archive, cache)
    assert folder == cache / "tiny"
    assert content_digest(folder, archive.counts) == archive.digest
    assert leftovers(cache) == ["tiny"]
    assert not (folder / "README.md").exists()
    # The second time nothing is downloaded.
    (tmp_path / "packed.zip").unlink()
    assert fetch(archive, cache) == folder


def test_the_data_set_can_be_read(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "BCCD", archive)
    with pytest.raises(DataError, match=r"pass data\.root=.*or data\.download=true"):
        bccd(cache_dir=tmp_path / "cache")
    data = bccd(download=True, cache_dir=tmp_path / "cache")
    assert {split: len(records) for split, records in data.splits.items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    assert bccd(cache_dir=tmp_path / "cache").class_names == ("RBC",)


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.default_cache() == tmp_path / "darts-hpo"


def test_offline(archive, tmp_path):
    gone = replace(archive, url=(tmp_path / "nothing.zip").as_uri())
    with pytest.raises(DataError, match=r"Could not download .*pass data\.root="):
        fetch(gone, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("change", ["changed", "missing", "extra"])
def test_other_content_is_thrown_away(archive, source, tmp_path, change):
    if change == "changed":
        (source / "Annotations/0.xml").write_text("<annotation/>")
    elif change == "missing":
        (source / "JPEGImages/0.jpg").unlink()
    else:
        (source / "JPEGImages/9.jpg").write_bytes(b"x")
    pack(source, tmp_path / "packed.zip")
    with pytest.raises(DataError, match="not the data set expected" if change == "changed" else r"expected 6; it was"):
        fetch(archive, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "name", ["../evil.xml", "/evil.xml", "Repo/BCCD/Annotations/../../../evil.xml", "..\\evil.xml"]
)
def test_entries_that_leave_the_folder_are_refused(archive, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "packed.zip", "a") as content:
        content.writestr(name, "evil")
    with pytest.raises(DataError, match="unsafe entry"):
        fetch(archive, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("evil.xml"))


def test_links_are_refused(archive, tmp_path):
    entry = zipfile.ZipInfo("Repo/BCCD/Annotations/0.xml")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as content:
        content.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="unsafe entry"):
        fetch(archive, tmp_path / "cache")


def test_too_large_a_download_or_content_is_refused(archive, tmp_path):
    size = (tmp_path / "packed.zip").stat().st_size
    with pytest.raises(DataError, match=r"packed\.zip is larger than"):
        fetch(replace(archive, max_bytes=size - 1), tmp_path / "cache")
    bomb = zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED)
    with bomb:
        bomb.writestr("Repo/BCCD/Annotations/0.xml", b"0" * 10**6)
    with pytest.raises(DataError, match=r"The content of .* is larger than"):
        fetch(replace(archive, max_bytes=10**5), tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_no_zip_at_all(archive, tmp_path):
    (tmp_path / "packed.zip").write_text("<html>rate limited</html>")
    with pytest.raises(DataError, match="gave no intact zip"):
        fetch(archive, tmp_path / "cache")


@pytest.mark.needs_data
def test_the_digest_is_that_of_the_real_images():
    assert content_digest(DATA / "BCCD", BCCD.counts) == BCCD.digest
    assert bccd(DATA).num_classes == 3
