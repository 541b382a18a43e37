import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image
from samples import photo

from fmnist_lightning import load_classifier
from fmnist_lightning.photos.report import as_summary, printable

Fit = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos in folders of two classes and of none, and files that are no photos."""
    folder = tmp_path / "photos"
    for name in ("dress/a b.png", "dress/c.jpg", "shoes/d.png", "holidays/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo(ink="#502030" if "d" in name else "#000000").save(folder / name)
    (folder / "notes.txt").write_text("shoes")
    (folder / "shoes" / "f.jpg").touch()
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "photos.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_answers_photos_and_skips_what_is_none(fit: Fit, run: Run, photos: Path) -> None:
    run_dir = fit()
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos")
    assert code == 1  # for the two that are skipped
    assert "error: 2 photos were skipped" in err
    assert "skipped photos/notes.txt: it is not a picture" in out
    assert "skipped photos/shoes/f.jpg: it is not a picture" in out
    (folder,) = (run_dir / "photos").iterdir()
    assert f"table and contact sheets: {folder}" in out

    files = [
        f"photos/{name}"
        for name in ("dress/a b.png", "dress/c.jpg", "holidays/e.png", "shoes/d.png")
    ]
    assert [row["file"] for row in rows(folder)] == files
    answers = load_classifier("best.ckpt").predict(files)
    for row, answer in zip(rows(folder), answers, strict=True):
        assert row["prediction"] == answer.label
        assert float(row[answer.label]) == pytest.approx(answer.probability, abs=1e-5)
        three = sorted(answer.probabilities, key=answer.probabilities.__getitem__)[:-4:-1]
        (line,) = (line for line in out.splitlines() if line.startswith(row["file"]))
        assert [line.index(name) for name in three] == sorted(line.index(name) for name in three)
        assert f"{answer.label} {answer.probability:.1%}" in line

    right = {
        name: [
            a.label in classes
            for a, row in zip(answers, rows(folder), strict=True)
            if row["folder"] == name
        ]
        for name, classes in (("dress", ["Dress"]), ("shoes", ["Sandal", "Sneaker", "Ankle boot"]))
    }
    assert as_summary({name: [sum(hits), len(hits)] for name, hits in right.items()}) in out
    wrong = sum(not each for hits in right.values() for each in hits)
    assert wrong > 0
    width, height = 232 + 16, 156 + 16
    with Image.open(folder / "photos-1.png") as sheet:
        assert sheet.size == (4 * width, height)
    with Image.open(folder / "mistakes-1.png") as sheet:
        assert sheet.size == (wrong * width, height)


def test_the_contact_sheet_shows_photo_and_picture(fit: Fit, run: Run, photos: Path) -> None:
    run_dir = fit()
    code, _, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos/shoes/d.png")
    assert code == 0, err
    (folder,) = (run_dir / "photos").iterdir()
    with Image.open(folder / "photos-1.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert pixels[64, 60] == pytest.approx([0x50, 0x20, 0x30], abs=20)  # the shirt
    red, green, blue = pixels[64, 184]  # the same place on the picture: bright, and grey
    assert red == green == blue > 150


def test_forty_to_a_sheet_and_each_run_its_folder(fit: Fit, run: Run, tmp_path: Path) -> None:
    run_dir = fit()
    for number in range(41):
        Image.new("L", (28, 28), number).save(tmp_path / f"{number:02}.png")
    for _ in range(2):
        assert run("predict", "--ckpt_path", "best.ckpt", "--photos", "*.png")[0] == 0
    folders = list((run_dir / "photos").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert len(rows(folder)) == 41
        sizes = []
        for number in (1, 2):
            with Image.open(folder / f"photos-{number}.png") as sheet:
                sizes.append(sheet.size)
        assert sizes == [(5 * 248, 8 * 172), (248, 172)]
        assert not list(folder.glob("mistakes*"))


def test_names_that_are_hard_to_print(fit: Fit, run: Run, tmp_path: Path) -> None:
    fit()
    bad = os.fsdecode(b"caf\xe9\n.png")
    Image.new("L", (28, 28)).save(tmp_path / bad)
    code, out, _ = run("predict", "--ckpt_path", "best.ckpt", "--photos", bad, "gone.png")
    assert code == 1
    assert "caf\\xe9\\n.png  " in out
    assert "skipped gone.png: there is no such file" in out
    assert printable("a\tb") == "a\\tb"


HOSTILE = [
    *(
        "-dash.png",
        "--help",
        "a b.png",
        "new\nline.png",
        "[1].png",
        "a*b?.png",
        "%s.png",
        "wrong.txt",
    ),
    *(
        "~",
        "null",
        "\x1b[31m.png",
        os.fsdecode(b"caf\xe9.png"),
        "\u202egnp.exe",
        "'\".png",
        "x" * 250,
    ),
]


def test_any_name_is_read(fit: Fit, run: Run, tmp_path: Path) -> None:
    run_dir = fit()
    (tmp_path / "odd").mkdir()
    for name in HOSTILE:
        Image.new("L", (28, 28)).save(tmp_path / "odd" / name, format="PNG")
    (tmp_path / "odd" / "loop").symlink_to("loop")
    (tmp_path / "odd" / "back").symlink_to("../odd")
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "odd/")
    assert code == 1
    assert "skipped odd/loop: there is no such file" in out
    (folder,) = (run_dir / "photos").iterdir()
    assert len(rows(folder)) == len(HOSTILE)
    assert all(line.isprintable() for line in out.splitlines())
    one_by_one = [f"odd/{name}" for name in HOSTILE]
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", *one_by_one)
    assert code == 0, err
    os.chdir("odd")
    best = ("--ckpt_path", "../best.ckpt", "--data.data_dir", "../data")
    for option in (["--photos=-dash.png"], ["--photos", "./-dash.png", "./--help"]):
        code, _, err = run("predict", *best, *option)
        assert code == 0, err
    os.chdir(tmp_path)


@pytest.mark.usefixtures("photos")
def test_mistakes_get_one_line(fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = fit()
    Path("nothing").mkdir()
    for args, message in (
        (("--photos", "nothing"), "there is no file in nothing"),
        (("--photos", "photos", "--index", "3"), "leave --photos out"),
        (("--photos", "photos", "--trainer.devices", "2"), "on one device, not on 2"),
        (("--trainer.devices", "2"), "on one device, not on 2"),
        (("--index", "105"), "--index 105: the test pictures are numbered 0 to 104"),
    ):
        code, _, err = run("predict", "--ckpt_path", "best.ckpt", *args)
        assert code == 1
        assert message in err
        assert err.count("error") == 1
        assert "Traceback" not in err
        assert not (run_dir / "photos").exists()
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    code, _, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "photos")
    assert code == 1
    assert "pip install opencv-python-headless" in err


def test_one_test_picture_with_its_answer(fit: Fit, run: Run) -> None:
    folder = fit()
    code, out, _ = run("predict", "--ckpt_path", "best.ckpt", "--index", "61")
    assert code == 0
    with (folder / "predictions.csv").open(newline="") as stream:
        row = list(csv.DictReader(stream))[61]
    chance = float(row[row["prediction"]])
    assert f"test picture 61: {row['prediction']} {chance:.1%}, label {row['label']}" in out
    with Image.open(folder / "picture-61.png") as chart:
        assert chart.size == (720, 356)


def test_the_summary_and_its_interval() -> None:
    lines = as_summary({"shoes": [3, 4], "dress": [1, 2]}).splitlines()
    assert lines[0].startswith("balanced accuracy 62.50% ± ")
    assert lines[0].endswith("(the mean of 2 folders)")
    assert lines[1:] == ["  dress         50.00% (1/2)", "  shoes         75.00% (3/4)"]
    reach = float(lines[0].split()[4].rstrip("%"))
    assert reach == pytest.approx(98 * (0.25 / 2 + (4 / 6) * (2 / 6) / 4) ** 0.5, abs=0.01)
    sure = as_summary({"dress": [20, 20]}).splitlines()[0]
    assert float(sure.split()[4].rstrip("%")) > 5  # not certain
