"""Readers: three formats, one truth; and what each does with bad input."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darts_hpo.errors import ConfigError, DataError
from supernets.detection.readers import read_dataset
from supernets.detection.records import CleaningReport, clean_boxes

BCCD = Path(__file__).parents[3] / "../shared/data/bccd"

NAMES = ["cat", "dog"]
# Name, width, height, objects (label, x1, y1, x2, y2), by split.
TRUTH = {
    "train": [
        ("a", 64, 48, [(0, 3, 4, 20, 30), (1, 30, 8, 64, 48)]),
        ("b", 40, 60, [(1, 0, 0, 39, 59)]),
        ("empty", 32, 32, []),
    ],
    "val": [("c", 50, 50, [(0, 10, 10, 20, 25)])],
    "test": [("d", 50, 40, [(1, 5, 5, 45, 35), (0, 1, 1, 9, 9)])],
}


def write_image(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([width, height, len(path.stem)]).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_yolo(root, truth=TRUTH, names=NAMES):
    for split, images in truth.items():
        for name, width, height, objects in images:
            write_image(root / f"images/{split}/{name}.jpg", width, height)
            rows = [
                f"{label} {(x1 + x2) / 2 / width:.9f} {(y1 + y2) / 2 / height:.9f} "
                f"{(x2 - x1) / width:.9f} {(y2 - y1) / height:.9f}"
                for label, x1, y1, x2, y2 in objects
            ]
            labels = root / f"labels/{split}/{name}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            if rows:
                labels.write_text("\n".join(rows) + "\n")
    entries = "\n".join(f"{split}: images/{split}" for split in truth)
    listed = "\n".join(f"  {i}: {name}" for i, name in enumerate(names))
    (root / "data.yaml").write_text(f"path: .\n{entries}\nnames:\n{listed}\n")
    return root


def write_coco(root, truth=TRUTH, names=NAMES):
    (root / "annotations").mkdir(parents=True)
    for split, images in truth.items():
        # Sparse category ids and image ids that start anywhere, as in the original.
        content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 10 * i + 7, "name": name} for i, name in enumerate(names)][::-1],
        }
        for number, (name, width, height, objects) in enumerate(images, 100):
            write_image(root / f"{split}2017/{name}.jpg", width, height)
            content["images"].append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height})
            for label, x1, y1, x2, y2 in objects:
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]),
                        "image_id": number,
                        "category_id": 10 * label + 7,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "iscrowd": 0,
                    }
                )
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


def voc_object(name, x1, y1, x2, y2, difficult=0):
    """Half-open 0-based corners as VOC's inclusive 1-based ones."""
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )


def write_voc(root, truth=TRUTH, names=NAMES):
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, images in truth.items():
        for name, width, height, objects in images:
            write_image(root / f"JPEGImages/{name}.jpg", width, height)
            content = "".join(voc_object(names[label], *box) for label, *box in objects)
            (root / f"Annotations/{name}.xml").write_text(f"<annotation>{content}</annotation>")
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name, *_ in images))
    return root


WRITERS = {"yolo": write_yolo, "coco": write_coco, "voc": write_voc}


def content(data):
    """Everything but where the files lie."""
    return {
        split: sorted(
            (Path(r.id).stem, r.width, r.height, r.labels.tolist(), r.boxes.round(3).tolist()) for r in records
        )
        for split, records in data.splits.items()
    }


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
@pytest.mark.parametrize("choice", ["auto", "named"])
def test_every_format_gives_the_boxes_that_were_written(tmp_path, format, choice):
    data = read_dataset(WRITERS[format](tmp_path), "auto" if choice == "auto" else format)
    assert data.format == format
    assert data.class_names == ("cat", "dog")
    expected = {
        split: sorted(
            (name, w, h, [o[0] for o in objects], [[float(v) for v in o[1:]] for o in objects])
            for name, w, h, objects in images
        )
        for split, images in TRUTH.items()
    }
    assert content(data) == expected
    assert data.report.counts == {}
    assert all(r.boxes.dtype == np.float32 and r.labels.dtype == np.int64 for r in data.splits["train"])


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_a_folder_in_a_folder_is_found(tmp_path, format):
    WRITERS[format](tmp_path / "outer" / "inner")
    assert read_dataset(tmp_path).format == format


# ---------------------------------------------------------------- what any reader refuses


def test_root_not_given():
    with pytest.raises(DataError, match=r"pass data\.root="):
        read_dataset(None)


def test_root_missing(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; pass data\.root="):
        read_dataset(tmp_path / "nowhere")


def test_unknown_format_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DataError, match=r"yolo: .*coco: .*voc: .*"):
        read_dataset(tmp_path)


def test_unknown_format_name_gives_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"Did you mean 'coco'"):
        read_dataset(tmp_path, "cocoo")


def test_two_data_sets_are_not_guessed_between(tmp_path):
    write_yolo(tmp_path / "one")
    write_voc(tmp_path / "two")
    with pytest.raises(DataError, match=r"Several data sets found: .*one.*two"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, "voc").format == "voc"


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_no_image_has_a_usable_box(tmp_path, format):
    truth = {"train": [("a", 64, 48, []), ("b", 40, 60, [(0, 9, 9, 9, 9)])]}
    root = WRITERS[format](tmp_path, truth, ["cat"])
    with pytest.raises(DataError, match="no usable box"):
        read_dataset(root, class_names=["cat"])


@pytest.mark.parametrize("format", ["yolo", "coco"])
def test_duplicate_class_names(tmp_path, format):
    with pytest.raises(DataError, match="'cat' occurs twice"):
        read_dataset(WRITERS[format](tmp_path, names=["cat", "cat"]))


@pytest.mark.parametrize("format", ["yolo", "coco"])
def test_class_names_that_contradict_the_data_set(tmp_path, format):
    with pytest.raises(DataError, match="differ from those of"):
        read_dataset(WRITERS[format](tmp_path), class_names=["dog", "cat"])


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_degenerate_and_outlying_boxes_are_counted_and_the_rest_is_kept(tmp_path, format, caplog):
    boxes = [(0, 3, 4, 20, 30), (0, 7, 7, 7, 7), (0, 90, 90, 95, 95), (0, 30, 20, 80, 70), (0, 3, 4, 20, 30)]
    with caplog.at_level(logging.WARNING):
        data = read_dataset(WRITERS[format](tmp_path, {"train": [("a", 64, 48, boxes)]}, ["cat"]))
        assert not caplog.records  # the task says it, once
        data.log_summary()
    assert data.splits["train"][0].boxes.tolist() == [[3, 4, 20, 30], [30, 20, 64, 48]]
    assert data.report.counts == {
        "degenerate or out-of-image boxes dropped": 2,
        "boxes clipped to the image": 1,
        "repeated boxes dropped": 1,
    }
    assert "2 degenerate or out-of-image boxes dropped, first in " in caplog.text


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_a_truncated_image_is_named(tmp_path, format):
    root = WRITERS[format](tmp_path)
    image = next(root.rglob("a.jpg"))
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    record = next(r for r in read_dataset(root).splits["train"] if Path(r.id).stem == "a")
    with pytest.raises(DataError, match=r"a\.jpg cannot be decoded .*truncated"):
        record.load()


@pytest.mark.parametrize("damage", ["truncated", "not an image"])
def test_bad_images_can_be_skipped(tmp_path, damage, caplog):
    root = write_voc(tmp_path)
    image = root / "JPEGImages/a.jpg"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2] if damage == "truncated" else b"hello")
    with caplog.at_level(logging.WARNING):
        data = read_dataset(root, on_bad_image="skip")
    assert [Path(r.id).stem for r in data.splits["train"]] == ["b", "empty"]
    assert data.report["images that cannot be decoded skipped"] == 1
    assert "a.jpg" in caplog.text


def test_a_file_that_is_no_image_is_named(tmp_path):
    root = write_yolo(tmp_path)
    (root / "images/train/a.jpg").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"a\.jpg cannot be read"):
        read_dataset(root)


def test_orientation_of_photographs_is_applied(tmp_path):
    root = write_yolo(tmp_path, {"train": [("a", 64, 48, [(0, 3, 4, 20, 30)])]}, ["cat"])
    image = Image.open(root / "images/train/a.jpg")
    exif = image.getexif()
    exif[274] = 6
    image.save(root / "images/train/a.jpg", exif=exif)
    record = read_dataset(root).splits["train"][0]
    assert (record.width, record.height) == (48, 64)
    assert record.load().shape == (64, 48, 3)


# ---------------------------------------------------------------- paths that leave the root


@pytest.fixture
def outside(tmp_path):
    write_image(tmp_path / "outside/images/x.jpg", 20, 20)
    return tmp_path / "outside"


def test_yolo_split_folder_outside(tmp_path, outside):
    root = write_yolo(tmp_path / "in")
    yaml = root / "data.yaml"
    yaml.write_text(yaml.read_text().replace("train: images/train", f"train: {outside}/images"))
    with pytest.raises(DataError, match=r"Key 'train' .* leads out of the data root"):
        read_dataset(root)


def test_yolo_base_outside(tmp_path, outside):
    root = write_yolo(tmp_path / "in")
    yaml = root / "data.yaml"
    yaml.write_text(yaml.read_text().replace("path: .", "path: ../outside"))
    with pytest.raises(DataError, match=r"Key 'path' .* leads out of the data root"):
        read_dataset(root)


def test_yolo_list_names_an_image_outside(tmp_path, outside):
    root = write_yolo(tmp_path / "in")
    (root / "train.txt").write_text("images/train/a.jpg\n../outside/images/x.jpg\n")
    yaml = root / "data.yaml"
    yaml.write_text(yaml.read_text().replace("train: images/train", "train: train.txt"))
    with pytest.raises(DataError, match=r"train\.txt:2 names .* leads out of the data root"):
        read_dataset(root)


def test_yolo_link_to_an_image_outside(tmp_path, outside):
    root = write_yolo(tmp_path / "in")
    (root / "images/train/x.jpg").symlink_to(outside / "images/x.jpg")
    with pytest.raises(DataError, match="leads out of the data root"):
        read_dataset(root)


def test_yolo_link_to_labels_outside(tmp_path, outside):
    root = write_yolo(tmp_path / "in")
    (outside / "secret").write_text("root:x:0:0\n")
    (root / "labels/train/empty.txt").symlink_to(outside / "secret")
    with pytest.raises(DataError, match="leads out of the data root"):
        read_dataset(root)


def test_coco_image_outside(tmp_path, outside):
    root = write_coco(tmp_path / "in", {"train": [("a", 64, 48, [(0, 3, 4, 20, 30)])]})
    file = root / "annotations/instances_train2017.json"
    file.write_text(file.read_text().replace("a.jpg", "../../outside/images/x.jpg"))
    with pytest.raises(DataError, match="leads out of the data root"):
        read_dataset(root)


def test_voc_list_names_an_image_outside(tmp_path, outside):
    root = write_voc(tmp_path / "in")
    (root / "ImageSets/Main/train.txt").write_text("a\n../../outside/x\n")
    with pytest.raises(DataError, match=r"train\.txt:2 names .* leads out of the data root"):
        read_dataset(root)


# ---------------------------------------------------------------- Ultralytics form


def test_yolo_root_may_be_the_yaml(tmp_path):
    root = write_yolo(tmp_path)
    assert content(read_dataset(root / "data.yaml")) == content(read_dataset(root))


def test_yolo_roboflow_export(tmp_path):
    for split in ("train", "valid"):
        write_image(tmp_path / f"{split}/images/a.{split}.png", 20, 10)
        (tmp_path / f"{split}/labels").mkdir()
        (tmp_path / f"{split}/labels/a.{split}.txt").write_text("0 0.5 0.5 0.5 1.0")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\nroboflow: {version: 3}\n"
    )
    data = read_dataset(tmp_path)
    assert [r.id for r in data.splits["train"]] == ["train/images/a.train.png"]
    assert data.splits["val"][0].boxes.tolist() == [[5, 0, 15, 10]]


def test_yolo_lists_and_several_entries(tmp_path):
    root = write_yolo(tmp_path)
    (root / "images/list.txt").write_text("./train/a.jpg\n\nimages/train/b.jpg\n")
    (root / "data.yaml").write_text(
        "path: /no/such/place\ntrain: [images/list.txt, images/val]\nval: images/test/d.jpg\nnames: [cat, dog]\n"
    )
    data = read_dataset(root)
    assert [Path(r.id).stem for r in data.splits["train"]] == ["a", "b", "c"]
    assert [Path(r.id).stem for r in data.splits["val"]] == ["d"]


def test_yolo_polygon_becomes_its_extent(tmp_path):
    root = write_yolo(tmp_path)
    (root / "labels/train/a.txt").write_text("1 0.25 0.25 0.5 0.125 0.75 0.5 0.5 0.75\n")
    record = read_dataset(root).splits["train"][0]
    assert record.boxes.tolist() == [[16, 6, 48, 36]]
    assert record.labels.tolist() == [1]


@pytest.mark.parametrize("text", [None, "", "\n  \n", "\ufeff"])
def test_yolo_missing_or_empty_labels_are_background(tmp_path, text):
    root = write_yolo(tmp_path)
    labels = root / "labels/train/a.txt"
    labels.unlink() if text is None else labels.write_text(text, encoding="utf-8")
    assert read_dataset(root).splits["train"][0].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", r"a\.txt:2: class id 2 is out of range; valid are 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", r"a\.txt:2: class id -1 is out of range"),
        ("0.5 0.5 0.5 0.1 0.1", r"a\.txt:2: class id 0\.5 is out of range"),
        ("0 0.5 0.5 0.1", r"a\.txt:2: cannot read '0 0\.5 0\.5 0\.1'; expected 'class cx cy width height'"),
        ("0 0.5 0.5 0.1 0.1 0.9", r"a\.txt:2: cannot read"),
        ("cat 0.5 0.5 0.1 0.1", r"a\.txt:2: cannot read"),
        ("0 nan 0.5 0.1 0.1", r"a\.txt:2: cannot read"),
        ("0 0.5 inf 0.1 0.1", r"a\.txt:2: cannot read"),
    ],
)
def test_yolo_bad_rows_are_named(tmp_path, row, message):
    root = write_yolo(tmp_path)
    (root / "labels/train/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_dataset(root)


def test_yolo_binary_labels(tmp_path):
    root = write_yolo(tmp_path)
    (root / "labels/train/a.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"a\.txt is not a text file"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/train\nnames: {0: cat, 2: dog}", r"number the classes 0 to 1"),
        ("train: images/train\nnames: cat", r"give a list, or a map"),
        ("train: images/train\nnames: []", r"No class names"),
        ("train: images/train\nnc: 3\nnames: [cat, dog]", r"says nc: 3 but has 2 names"),
        ("train: images/trian\nnames: [cat, dog]", r"Key 'train' .*data\.yaml names images/trian"),
        ("train: labels\nnames: [cat, dog]", r"leads to no images"),
        ("train: [names: {", r"data\.yaml is not valid YAML"),
        (
            "train: list.txt\nnames: [cat, dog]",
            r"list\.txt:1 names image images/train/zzz\.jpg, which does not exist",
        ),
    ],
)
def test_yolo_bad_yaml(tmp_path, text, message):
    root = write_yolo(tmp_path)
    (root / "list.txt").write_text("images/train/zzz.jpg")
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_dataset(root)


def test_a_held_out_split_without_labels_is_left_out(tmp_path, caplog):
    root = write_yolo(tmp_path)
    (root / "labels/test/d.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert set(read_dataset(root).splits) == {"train", "val"}
    assert "split 'test' has no labelled box" in caplog.text


# ---------------------------------------------------------------- COCO


def edit_json(root, change, split="train"):
    file = root / f"annotations/instances_{split}2017.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_coco_crowds_are_kept_apart_and_counted(tmp_path):
    root = write_coco(tmp_path)
    edit_json(root, lambda d: d["annotations"][0].update(iscrowd=1))
    data = read_dataset(root)
    record = data.splits["train"][0]
    assert record.labels.tolist() == [1]
    assert record.ignored_labels.tolist() == [0]
    assert record.ignored_boxes.tolist() == [[3, 4, 20, 30]]
    assert data.report["crowd regions ignored, in training and in scores"] == 1


def test_coco_roboflow_export_and_other_tasks_files(tmp_path):
    root = write_coco(tmp_path / "original")
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        target = tmp_path / "flat" / folder
        target.parent.mkdir(exist_ok=True)
        os.rename(root / f"{split}2017", target)  # noqa: PTH104
        (root / f"annotations/instances_{split}2017.json").rename(target / "_annotations.coco.json")
    assert set(read_dataset(tmp_path / "flat").splits) == {"train", "val", "test"}


def test_coco_keypoints_and_captions_give_way_to_instances(tmp_path):
    root = write_coco(tmp_path)
    source = root / "annotations/instances_train2017.json"
    (root / "annotations/person_keypoints_train2017.json").write_text(source.read_text().replace("cat", "person"))
    assert read_dataset(root).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["annotations"][0].update(category_id=9),
            r"annotation 0 has category_id 9, .*valid are 7, 17",
        ),
        (lambda d: d["annotations"][0].update(image_id=9), r"annotation 0 belongs to image id 9"),
        (
            lambda d: d["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotation 0 has bbox \[1, 2, 3\]; expected four",
        ),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), r"expected four numbers"),
        (lambda d: d["annotations"][0].update(bbox="1 2 3 4"), r"expected four numbers"),
        (lambda d: d["categories"][0].update(id=7), r"category ids .* are not unique"),
        (lambda d: d["categories"][0].pop("name"), r"every category needs"),
        (lambda d: d["images"][0].pop("file_name"), r"every image needs"),
        (lambda d: d["images"][1].update(id=100), r"image id 100 is used twice"),
        (lambda d: d["images"][0].update(file_name="zzz.jpg"), r"names image zzz\.jpg, found in none of"),
        (lambda d: d["images"][1].update(file_name="zzz.jpg"), r"names image zzz\.jpg, which is not in"),
        (lambda d: d.update(categories={}), r"has no list 'categories'"),
        (lambda d: d["annotations"].append([1, 2]), r"the annotation \[1, 2\] is no object of keys"),
        (lambda d: d["annotations"].append("cat"), r"the annotation 'cat' is no object of keys"),
        (lambda d: d["annotations"][0].update(image_id=[1]), r"annotation 0 belongs to image id \[1\]"),
        (lambda d: d["annotations"][0].update(category_id=[7]), r"annotation 0 has category_id \[7\]"),
        (lambda d: d["images"].append(7), r"every image needs 'id' and 'file_name'; correct 7"),
        (lambda d: d["images"][0].update(id=[1]), r"every image needs"),
        (lambda d: d["categories"].append(7), r"every category needs"),
        (lambda d: d["images"][0].update(width="wide"), r"width and height of a\.jpg are \('wide', 48\)"),
        (
            lambda d: d["images"][0].update(width=640, height=480),
            r"image a\.jpg speaks of 640 x 480 pixels, but .*a\.jpg has 64 x 48",
        ),
        (lambda d: d["images"][0].update(width=48, height=64), r"speaks of 48 x 64 pixels"),
    ],
)
def test_coco_bad_json_content(tmp_path, change, message):
    root = write_coco(tmp_path)
    edit_json(root, change)
    with pytest.raises(DataError, match=message):
        read_dataset(root)


def test_coco_cut_off_json(tmp_path):
    root = write_coco(tmp_path)
    file = root / "annotations/instances_train2017.json"
    file.write_text(file.read_text()[:-5])
    with pytest.raises(DataError, match=r"instances_train2017\.json is not valid JSON"):
        read_dataset(root)


def test_coco_splits_with_different_categories(tmp_path):
    root = write_coco(tmp_path)
    edit_json(root, lambda d: d["categories"][0].update(name="bird"), "val")
    with pytest.raises(DataError, match=r"categories .* differ"):
        read_dataset(root)


def test_coco_splits_that_cannot_be_told_apart(tmp_path):
    root = write_coco(tmp_path)
    for name, new in (("train", "one"), ("val", "latest")):
        (root / f"annotations/instances_{name}2017.json").rename(root / f"annotations/instances_{new}.json")
    with pytest.raises(DataError, match="Cannot tell the splits of"):
        read_dataset(root)


# ---------------------------------------------------------------- VOC


def test_voc_classes_are_sorted_or_as_given(tmp_path):
    root = write_voc(tmp_path)
    assert read_dataset(root).class_names == ("cat", "dog")
    given = read_dataset(root, class_names=["dog", "bird", "cat"])
    assert given.class_names == ("dog", "bird", "cat")
    assert given.splits["train"][0].labels.tolist() == [2, 0]


def test_voc_class_that_is_not_listed(tmp_path):
    with pytest.raises(DataError, match=r"a\.xml: Unknown class: 'cat'. Did you mean 'cats'\?"):
        read_dataset(write_voc(tmp_path), class_names=["cats", "dog"])


@pytest.mark.parametrize(("choice", "number"), [("ignore", 1), ("keep", 2)])
def test_voc_difficult_objects(tmp_path, choice, number):
    root = write_voc(tmp_path)
    objects = voc_object("cat", 1, 1, 9, 9) + voc_object("dog", 1, 1, 20, 20, difficult=1)
    (root / "Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    data = read_dataset(root, difficult=choice)
    record = data.splits["train"][0]
    assert len(record.labels) == number
    assert record.ignored_boxes.tolist() == [[1, 1, 20, 20]] * (2 - number)
    assert record.ignored_labels.tolist() == [1] * (2 - number)
    assert data.report["objects marked difficult ignored, in training and in scores"] == 2 - number


@pytest.mark.parametrize(("name", "message"), [("difficult", "Valid: ignore, keep"), ("on_bad_image", "error, skip")])
def test_unknown_words_are_refused(tmp_path, name, message):
    with pytest.raises(ConfigError, match=rf"data\.{name}: 'no'.*{message}"):
        read_dataset(tmp_path, **{name: "no"})


def voc_size(root, width, height):
    """Let the annotation of image a declare its size."""
    file = root / "Annotations/a.xml"
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    file.write_text(file.read_text().replace("<annotation>", f"<annotation>{size}"))
    return root


def test_voc_declared_size_is_compared_with_the_image(tmp_path):
    for number, size in enumerate([(64, 48), (0, 0), ("", "")]):
        assert read_dataset(voc_size(write_voc(tmp_path / str(number)), *size)).format == "voc"
    with pytest.raises(DataError, match=r"a\.xml speaks of 48 x 64 pixels, but .*a\.jpg has 64 x 48"):
        read_dataset(voc_size(write_voc(tmp_path / "other"), 48, 64))
    with pytest.raises(DataError, match=r"a\.xml: <width> is 'x'; expected a number"):
        read_dataset(voc_size(write_voc(tmp_path / "text"), "x", 48))


@pytest.mark.parametrize("size", [(64, 48), (48, 64)])
def test_a_turned_photograph_may_be_declared_either_way(tmp_path, size):
    root = voc_size(write_voc(tmp_path), *size)
    image = Image.open(root / "JPEGImages/a.jpg")
    exif = image.getexif()
    exif[274] = 6
    image.save(root / "JPEGImages/a.jpg", exif=exif)
    record = next(r for r in read_dataset(root).splits["train"] if r.id.endswith("a.jpg"))
    assert (record.width, record.height) == (48, 64)


def test_voc_trainval_without_train(tmp_path):
    root = write_voc(tmp_path)
    lists = root / "ImageSets/Main"
    (lists / "train.txt").unlink()
    (lists / "trainval.txt").write_text("a\nb\nempty\nc\n")
    (lists / "cat_train.txt").write_text("a 1\nb -1\n")
    data = read_dataset(root)
    assert [Path(r.id).stem for r in data.splits["train"]] == ["a", "b", "empty"]


def test_voc_without_lists_is_all_training(tmp_path):
    root = write_voc(tmp_path)
    for file in (root / "ImageSets/Main").iterdir():
        file.unlink()
    assert {split: len(records) for split, records in read_dataset(root).splits.items()} == {"train": 5}


def test_voc_split_folders(tmp_path):
    root = write_voc(tmp_path / "original")
    for name, split in (("a", "train"), ("c", "valid")):
        target = tmp_path / "flat" / split
        target.mkdir(parents=True)
        (root / f"JPEGImages/{name}.jpg").rename(target / f"{name}.jpg")
        (root / f"Annotations/{name}.xml").rename(target / f"{name}.xml")
    data = read_dataset(tmp_path / "flat")
    assert {split: len(records) for split, records in data.splits.items()} == {"train": 1, "val": 1}


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
FILE_READER = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]>
<annotation><object><name>&f;</name></object></annotation>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"a\.xml declares a document type or XML entities.*refused"),
        (FILE_READER, r"a\.xml declares a document type or XML entities.*refused"),
        ("<annotation><object>", r"a\.xml is not well-formed XML"),
        ("", r"a\.xml is not well-formed XML"),
        (
            "<annotation><object><name>cat</name></object></annotation>",
            r"a\.xml: an <object> has no <bndbox>",
        ),
        ("<annotation><object><bndbox/></object></annotation>", r"a\.xml: an <object> has no <name>"),
        (
            "<annotation><object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
            r"a\.xml: an <object> has no <ymin>",
        ),
        (
            f"<annotation>{voc_object('cat', 1, 1, 9, 'x')}</annotation>",
            r"a\.xml: <ymax> is 'x'; expected a number",
        ),
    ],
)
def test_voc_bad_xml(tmp_path, text, message):
    root = write_voc(tmp_path)
    (root / "Annotations/a.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_dataset(root)


@pytest.mark.parametrize(("folder", "message"), [("Annotations", "names a, but"), ("JPEGImages", r"No image a\.\*")])
def test_voc_missing_file(tmp_path, folder, message):
    root = write_voc(tmp_path)
    next((root / folder).glob("a.*")).unlink()
    with pytest.raises(DataError, match=message):
        read_dataset(root)


# ---------------------------------------------------------------- real data and the cleaner


@pytest.mark.needs_data
def test_blood_cells():
    data = read_dataset(BCCD)
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert {split: len(records) for split, records in data.splits.items()} == {
        "train": 205,
        "val": 87,
        "test": 72,
    }
    assert sum(data.class_counts(split) for split in data.splits).tolist() == [361, 4153, 372]
    assert data.report.counts == {"degenerate or out-of-image boxes dropped": 2}
    first = next(r for r in data.splits["val"] + data.splits["test"] if r.id.endswith("00000.jpg"))
    assert first.boxes[0].tolist() == [259, 176, 491, 376]


def test_one_pixel_of_disagreement_is_not_reported():
    report = CleaningReport()
    boxes, _ = clean_boxes([[-1, 0, 10, 10], [-1.5, 0, 10, 11]], [0, 0], 20, 20, report, "x")
    assert boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 11]]
    assert report.counts == {"boxes clipped to the image": 1}
