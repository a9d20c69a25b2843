"""Data sets: letterboxed or augmented samples, batches, the cache."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from darts_hpo.errors import ConfigError, DataError
from darts_hpo.training.task import EpochSampler
from supernets.detection.augment import PAD_VALUE, Augmentation
from supernets.detection.dataset import DetectionDataset, ImageCache, collate
from supernets.detection.digits_scenes import digits_scenes
from supernets.detection.readers import read_dataset
from supernets.detection.records import ImageRecord
from supernets.detection.splits import make_splits

BCCD = Path(__file__).parents[3] / "../shared/data/bccd"


def record(identity, width, height, boxes=(), source=None):
    rng = np.random.default_rng([width, height])
    if source is None:
        source = rng.integers(0, 256, (height, width, 3), np.uint8)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(identity, source, width, height, boxes, np.arange(len(boxes)))


RECORDS = [
    record("wide", 128, 64, [[10, 20, 50, 60], [0, 0, 128, 64]]),
    record("tall", 32, 64, [[1, 2, 30, 40]]),
    record("background", 64, 64),
]


def test_evaluation_samples_are_letterboxed():
    data = DetectionDataset(RECORDS, 64)
    wide, tall, background = (data[i] for i in range(3))
    assert wide.image.shape == (3, 64, 64)
    assert wide.image.dtype == torch.uint8
    assert wide.boxes.tolist() == [[5, 26, 25, 46], [0, 16, 64, 48]]
    assert (wide.image[:, :16] == PAD_VALUE).all()
    assert (wide.image[:, 48:] == PAD_VALUE).all()
    assert torch.equal(tall.image[:, :, 16:48], torch.from_numpy(RECORDS[1].source).permute(2, 0, 1))
    assert tall.labels.tolist() == [0]
    assert background.boxes.shape == (0, 4)
    assert torch.equal(background.image, torch.from_numpy(RECORDS[2].source).permute(2, 0, 1))


def test_boxes_go_back_to_the_original():
    data = DetectionDataset(RECORDS, 96)
    for index, original in enumerate(RECORDS):
        boxes = torch.from_numpy(original.boxes)
        assert torch.allclose(data.to_original(index, data[index].boxes), boxes, atol=1e-4)


def test_batches_are_padded():
    data = DetectionDataset(RECORDS, 64)
    batch = collate([data[i] for i in (2, 0, 1)])
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    assert batch.labels.tolist() == [[-1, -1], [0, 1], [0, -1]]
    assert batch.labels.dtype == batch.indices.dtype == torch.int64
    assert batch.boxes[0].eq(0).all()
    assert batch.boxes[2, 1].eq(0).all()
    assert torch.equal(batch.boxes[1], data[0].boxes)
    assert batch.indices.tolist() == [2, 0, 1]


def test_a_batch_without_objects_has_one_padding_row():
    data = DetectionDataset(RECORDS, 64)
    batch = collate([data[2], data[2]])
    assert batch.labels.tolist() == [[-1], [-1]]
    assert batch.boxes.shape == (2, 1, 4)


def loaded(epoch, workers=0, seed=3):
    data = DetectionDataset(RECORDS * 4, 64, Augmentation(mixup=0.3), seed=seed, epochs=50)
    sampler = EpochSampler(len(data), seed)
    sampler.set_epoch(epoch)
    return list(DataLoader(data, batch_size=5, sampler=sampler, collate_fn=collate, num_workers=workers))


def test_samples_do_not_depend_on_workers_or_history():
    reference = loaded(4)
    for batches in (loaded(4), loaded(4, workers=2)):
        for ours, theirs in zip(reference, batches, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours[:4], theirs[:4], strict=True))
            assert ours.ignored_boxes is theirs.ignored_boxes is None
    assert not torch.equal(reference[0].images, loaded(5)[0].images)
    assert not torch.equal(reference[0].images, loaded(4, seed=4)[0].images)


def test_mosaic_closes_for_the_last_epochs(monkeypatch):
    flags = []

    def spy(index, fetch, number, size, settings, rng, *, mosaic):
        flags.append(mosaic)
        return fetch(index)

    monkeypatch.setattr("supernets.detection.dataset.augment", spy)
    data = DetectionDataset(RECORDS, 64, Augmentation(close_mosaic=3), epochs=10)
    for epoch in range(10):
        data[0, epoch, 0]
    assert flags == [True] * 7 + [False] * 3


@pytest.mark.parametrize("size", [0, 16, 100, 641])
def test_image_sizes_are_multiples_of_32(size):
    with pytest.raises(ConfigError, match=r"data\.image_size is \d+; it must be a multiple of 32"):
        DetectionDataset(RECORDS, size)


def test_images_are_decoded_once_for_all_data_sets(monkeypatch):
    decoded = []
    load = ImageRecord.load

    def counting(self, min_side=None):
        decoded.append(self.id)
        return load(self, min_side)

    monkeypatch.setattr(ImageRecord, "load", counting)
    cache = ImageCache(64)
    train = DetectionDataset(RECORDS[:2], 64, Augmentation(), cache=cache)
    both = DetectionDataset(RECORDS, 64, cache=cache)
    for epoch in range(3):
        train[0, epoch, 0]
        both[2]
    assert sorted(decoded) == ["background", "tall", "wide"]


def test_a_full_cache_decodes_the_rest_at_every_use(caplog):
    # Room for the first image, 64 x 32, and not for the next.
    with caplog.at_level(logging.WARNING):
        data = DetectionDataset(RECORDS, 64, cache=ImageCache(64, limit_gib=64 * 32 * 3 / 2**30))
    assert "2 of 3 images do not fit the cache" in caplog.text
    reference = DetectionDataset(RECORDS, 64)
    for i in range(3):
        assert torch.equal(data[i].image, reference[i].image)


def test_what_does_not_fit_is_reported_once_and_still_checked(tmp_path, caplog):
    path = tmp_path / "cut.jpg"
    Image.fromarray(RECORDS[0].source).save(path)
    whole = record("photo", 128, 64, source=path)
    cache = ImageCache(64, limit_gib=0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            cache.fill([whole, *RECORDS])
            DetectionDataset(RECORDS, 64, cache=cache)
    assert [entry.getMessage() for entry in caplog.records] == [
        "4 of 4 images do not fit the cache and are decoded at every use"
    ]
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be decoded"):
        ImageCache(64, limit_gib=0).fill([whole])


def test_ignored_regions_reach_evaluation_alone():
    boxes = np.array([[10, 20, 50, 60]], np.float32)
    wide = replace(RECORDS[0], ignored_boxes=boxes, ignored_labels=np.array([3]))
    batch = collate([DetectionDataset([wide, RECORDS[2]], 64)[i] for i in (1, 0)])
    assert batch.ignored_labels.tolist() == [[-1], [3]]
    assert batch.ignored_boxes.tolist() == [[[0, 0, 0, 0]], [[5, 26, 25, 46]]]
    assert batch.labels.tolist() == [[-1, -1], [0, 1]]
    training = DetectionDataset([wide], 64, Augmentation(mosaic=0))
    assert collate([training[0, 0, 0]]).ignored_labels is None


def test_a_cache_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="holds images of 32 pixels, not 64"):
        DetectionDataset(RECORDS, 64, cache=ImageCache(32))


def test_a_truncated_file_is_found_when_the_data_set_is_made(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(RECORDS[0].source).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be decoded .*on_bad_image=skip"):
        DetectionDataset([record("cut", 128, 64, source=path)], 64)


def test_grey_and_transparent_files_become_rgb(tmp_path):
    for mode in ("L", "RGBA", "P", "I;16"):
        path = tmp_path / f"{mode[0]}{len(mode)}.png"
        picture = Image.fromarray(RECORDS[2].source)
        if mode == "I;16":
            Image.fromarray(RECORDS[2].source[..., 0].astype(np.uint16) * 257).save(path)
        else:
            picture.convert(mode).save(path)
        pixels = record(mode, 64, 64, source=path).load()
        assert pixels.shape == (64, 64, 3)
        assert np.abs(pixels.mean() - RECORDS[2].source.mean()) < 10


def test_digits_can_be_trained_on():
    data = digits_scenes(4, 2, 2, 2)
    splits = make_splits(data, 0)
    train = DetectionDataset(splits.records(data, "train+arch"), 160, Augmentation(fliplr=0))
    batch = collate([train[i, 0, 0] for i in range(6)])
    assert batch.images.shape == (6, 3, 160, 160)
    real = batch.boxes[batch.labels >= 0]
    assert len(real) > 10
    assert (real[:, 2:] - real[:, :2] >= 2).all()
    assert real.min() >= 0
    assert real.max() <= 160


@pytest.mark.needs_data
def test_blood_cells_can_be_trained_on():
    data = read_dataset(BCCD)
    splits = make_splits(data, 0)
    assert {name: len(ids) for name, ids in splits.ids.items()} == {
        "train": 143,
        "arch": 62,
        "val": 87,
        "test": 72,
    }
    test = DetectionDataset(splits.records(data, "test")[:4], 224)
    for i, original in enumerate(test.records):
        assert torch.allclose(test.to_original(i, test[i].boxes), torch.from_numpy(original.boxes), atol=1e-3)
