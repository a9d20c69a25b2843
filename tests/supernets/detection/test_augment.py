"""Augmentation: boxes follow the pixels, and every sample is a function of its key."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from darts_hpo.errors import ConfigError
from darts_hpo.training.task import sample_rng
from supernets.detection.augment import (
    PAD_VALUE,
    Augmentation,
    Labelled,
    Letterbox,
    Placement,
    augment,
    colour_matrix,
    compose,
    visible_boxes,
)

STILL = Augmentation(mosaic=0, translate=0, scale=0, hsv_h=0, hsv_s=0, hsv_v=0, fliplr=0)
NO_COLOUR = {"hsv_h": 0, "hsv_s": 0, "hsv_v": 0}
# One colour per image; every pair differs by at least 195 in some channel, and by 60 from the padding.
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
SIZE = 96


def painted(index):
    """A black image with one rectangle, of colour and label ``index``, exactly its box."""
    rng = np.random.default_rng(index)
    height, width = ((72, 96), (96, 60), (96, 96))[index % 3]
    x1, y1 = rng.integers(0, 20, 2)
    x2, y2 = x1 + rng.integers(25, 36), y1 + rng.integers(25, 36)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] = torch.tensor(COLOURS[index], dtype=torch.uint8)[:, None, None]
    return Labelled(image, np.array([[x1, y1, x2, y2]], np.float32), np.array([index]))


def sample(index, settings, rng, mosaic=True, fetch=painted):
    return augment(index, fetch, len(COLOURS), SIZE, settings, rng, mosaic=mosaic)


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_follow_the_pixels(mosaic):
    settings = Augmentation(mosaic=mosaic, fliplr=0.5, flipud=0.5, rot90=0.5, **NO_COLOUR)
    seen = 0
    for seed in range(150):
        out = sample(seed % 6, settings, np.random.default_rng(seed))
        for label in np.unique(out.labels):
            boxes = out.boxes[out.labels == label]
            colour = torch.tensor(COLOURS[label])[:, None, None]
            # At least half of the colour at the pixel: the edge of the resampled rectangle.
            inked = ((out.image.int() - colour).abs() < 128).all(0)
            rows, columns = torch.nonzero(inked.any(1)).flatten(), torch.nonzero(inked.any(0)).flatten()
            # An image may be in a mosaic twice: the pixels then span both boxes.
            x1, y1, x2, y2 = boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()
            if len(boxes) == 1 and inked.sum() > 1.3 * (x2 - x1) * (y2 - y1):
                continue  # another copy is there, too little of it to be kept
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            if np.abs(np.array(found) - [x1, y1, x2, y2]).max() <= 1.01:
                seen += 1
            else:
                # Allowed only where a second, dropped copy leaves a sliver at the border of the output.
                assert mosaic
                border = inked.clone()
                border[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = False
                assert border.any()
                assert border.sum() < 0.1 * 72 * 96
    assert seen > 130


def test_nothing_switched_on_is_the_plain_letterbox():
    out = sample(0, STILL, np.random.default_rng(0))
    plain = compose([Placement(painted(0), 0, (SIZE - 72) // 2, 1.0)], SIZE, 0, 0)
    assert torch.equal(out.image, plain.image)
    assert out.boxes.tolist() == plain.boxes.tolist()
    assert (plain.image[:, :12] == PAD_VALUE).all()
    assert torch.equal(plain.image[:, 12:84], painted(0).image)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"fliplr": 1}, lambda image: image.flip(-1)),
        ({"flipud": 1}, lambda image: image.flip(-2)),
        ({"rot90": 1}, lambda image: image.rot90(1, (-2, -1))),
    ],
)
def test_flips_and_turns_are_exact(settings, expected):
    still = sample(0, STILL, np.random.default_rng(0))
    out = sample(0, Augmentation(**{**vars(STILL), **settings}), np.random.default_rng(0))
    assert torch.equal(out.image, expected(still.image))
    x1, y1, x2, y2 = out.boxes[0].astype(int)
    inside = out.image[:, y1:y2, x1:x2]
    assert (inside == torch.tensor(COLOURS[0])[:, None, None]).all()
    assert int((out.image[0] == 255).sum()) == (x2 - x1) * (y2 - y1)


def test_a_sample_is_a_function_of_its_key():
    settings = Augmentation(mixup=0.5, rot90=0.5, flipud=0.5)

    def of(*key):
        return sample(key[0], settings, sample_rng(7, key))

    reference = of(2, 3, 0)
    torch.manual_seed(1)
    np.random.default_rng(1).random(100)
    again = of(2, 3, 0)
    assert torch.equal(reference.image, again.image)
    assert reference.boxes.tolist() == again.boxes.tolist()
    for other in ((1, 3, 0), (2, 4, 0), (2, 3, 1)):
        assert not torch.equal(reference.image, of(*other).image)


def test_mosaic_shows_the_main_image_and_partners_of_the_split():
    asked = []

    def fetch(index):
        asked.append(index)
        return painted(index)

    for seed in range(50):
        sample(5, Augmentation(), np.random.default_rng(seed), fetch=fetch)
    assert asked[::4] == [5] * 50
    assert set(asked) == set(range(6))


def test_closed_mosaic_shows_one_image_only():
    for seed in range(20):
        asked = []

        def fetch(index, asked=asked):
            asked.append(index)
            return painted(index)

        sample(5, Augmentation(mixup=1.0), np.random.default_rng(seed), mosaic=False, fetch=fetch)
        assert asked == [5]


def test_four_images_meet_without_a_gap():
    """White images make a mosaic whose padding can only be outside of it, never between its tiles."""
    white = Labelled(
        torch.full((3, SIZE, SIZE), 255, dtype=torch.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
    )
    for seed in range(60):
        out = sample(0, Augmentation(**NO_COLOUR), np.random.default_rng(seed), fetch=lambda i: white)
        shown = out.image[0] == 255
        rows, columns = shown.any(1), shown.any(0)
        assert torch.equal(shown, rows[:, None] & columns[None])
        for line in (rows, columns):
            ends = torch.nonzero(line).flatten()
            assert line[ends[0] : ends[-1] + 1].all()


def test_mixup_blends_and_keeps_all_boxes():
    out = sample(0, Augmentation(**{**vars(STILL), "mixup": 1.0}), np.random.default_rng(1))
    assert len(out.boxes) == 2
    x1, y1, x2, y2 = out.boxes[0].astype(int)
    assert 0.2 * 255 < out.image[0, y1:y2, x1:x2].float().median() <= 255


def test_scale_covers_its_range():
    widths = []
    for seed in range(200):
        out = sample(0, Augmentation(**{**vars(STILL), "scale": 0.5}), np.random.default_rng(seed))
        widths += [x2 - x1 for x1, _, x2, _ in out.boxes.tolist() if x1 > 0]
    original = painted(0).boxes[0, 2] - painted(0).boxes[0, 0]
    assert min(widths) / original == pytest.approx(0.5, abs=0.06)
    assert max(widths) / original > 1.25


# ---------------------------------------------------------------- colour


def test_neutral_colour_matrix():
    assert colour_matrix(0, 1, 1) == pytest.approx(np.eye(3), abs=1e-12)


@pytest.mark.parametrize(("hue", "saturation"), [(0.3, 1.0), (0.0, 0.2), (-0.1, 1.7)])
def test_greys_stay_grey(hue, saturation):
    assert colour_matrix(hue, saturation, 0.8) @ np.ones(3) == pytest.approx(0.8 * np.ones(3), abs=1e-4)


def test_hue_turns_add_up_and_close():
    third = colour_matrix(1 / 3, 1, 1)
    assert third @ third @ third == pytest.approx(np.eye(3), abs=1e-9)
    # A third of the circle takes red towards a neighbouring primary, and keeps its brightness.
    red = third @ np.array([1.0, 0, 0])
    assert red.argmax() != 0
    assert np.array([0.299, 0.587, 0.114]) @ red == pytest.approx(0.299)


def test_saturation_and_brightness_agree_with_torchvision():
    pixels = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5 + 0.25
    for saturation in (0.5, 1.2):
        ours = torch.from_numpy(colour_matrix(0, saturation, 1)) @ pixels.reshape(3, -1)
        theirs = functional.adjust_saturation(pixels, saturation).reshape(3, -1)
        assert torch.allclose(ours, theirs, atol=1e-3)
    ours = torch.from_numpy(colour_matrix(0, 1, 0.7)) @ pixels.reshape(3, -1)
    assert torch.allclose(ours, functional.adjust_brightness(pixels, 0.7).reshape(3, -1), atol=1e-9)


def test_colour_leaves_geometry_alone():
    still = sample(0, STILL, np.random.default_rng(0))
    coloured = sample(0, Augmentation(**{**vars(STILL), "hsv_v": 0.5}), np.random.default_rng(0))
    assert coloured.boxes.tolist() == still.boxes.tolist()
    assert not torch.equal(coloured.image, still.image)


# ---------------------------------------------------------------- letterbox, boxes, settings


@settings(max_examples=200, deadline=None)
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), size=st.sampled_from([32, 160, 224, 640]))
def test_letterbox_there_and_back(width, height, size):
    letterbox = Letterbox(width, height, size)
    (w, h), (left, top) = letterbox.resized, letterbox.padding
    assert max(w, h) == size
    assert left >= 0
    assert top >= 0
    assert left + w <= size
    assert top + h <= size
    corners = torch.tensor([[0, 0, width, height], [width / 3, height / 4, width / 2, height]], dtype=torch.float64)
    scale = torch.tensor([*letterbox.scale, *letterbox.scale], dtype=torch.float64)
    offset = torch.tensor([left, top, left, top], dtype=torch.float64)
    assert torch.allclose(letterbox.to_original(corners * scale + offset), corners, rtol=1e-9)


def test_letterbox_of_a_known_image():
    letterbox = Letterbox(640, 480, 224)
    assert letterbox.resized == (224, 168)
    assert letterbox.padding == (0, 28)
    assert letterbox.to_original(torch.tensor([[0.0, 0.0, 112.0, 112.0]])).tolist() == [[0, 0, 320, 240]]


def test_boxes_with_too_little_left_are_dropped():
    boxes = np.array([[-90, 0, 10, 10], [-91, 0, 9, 10], [5, 5, 6.5, 50], [200, 0, 300, 10], [-5, 2, 9, 9]], np.float32)
    kept, labels = visible_boxes(boxes, np.arange(5), 100, min_side=2, min_visibility=0.1)
    assert labels.tolist() == [0, 4]
    assert kept.tolist() == [[0, 0, 10, 10], [0, 2, 9, 9]]


@pytest.mark.parametrize(
    "values",
    [
        {"mosaic": 1.5},
        {"scale": 1.0},
        {"fliplr": -0.1},
        {"hsv_h": 0.6},
        {"close_mosaic": -1},
        {"mixup": float("nan")},
    ],
)
def test_settings_out_of_range(values):
    with pytest.raises(ConfigError, match=rf"augmentation\.{next(iter(values))} is .*; it must lie between 0 and"):
        Augmentation(**values)
