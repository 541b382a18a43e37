import os
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from samples import SHIRT, photo

from fmnist_lightning.photos.images import (
    PhotoDataset,
    PhotoError,
    find_photos,
    labels_from_folder,
    load_views,
    photo_loader,
    read_photo,
)
from fmnist_lightning.photos.preprocessing import (
    ASPECT_SCALES,
    NUM_VIEWS,
    preprocess_photo,
    segment_foreground,
)

SHIRT += [(40, 110), (20, 90)]


def differ(source: Path, other: Image.Image) -> float:
    """By how many of 255 levels a file's picture differs from that of a photo, in the mean."""
    difference = load_views(source)[-1].float() - preprocess_photo(other.convert("RGB"))[-1].float()
    return float(difference.abs().mean())


def test_finds_the_object() -> None:
    mask = segment_foreground(np.asarray(photo()))
    truth = np.asarray(photo("#000000", "#ffffff").convert("L")) < 128
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95


def test_a_speck_is_not_the_object() -> None:
    image = Image.new("RGB", (200, 200), "#c8b090")
    draw = ImageDraw.Draw(image)
    draw.rectangle((92, 92, 108, 108), fill="#203050")  # 0.7 % of it
    assert segment_foreground(np.asarray(image)).all()
    draw.rectangle((70, 70, 130, 130), fill="#203050")  # 9 %
    assert segment_foreground(np.asarray(image)).mean() == pytest.approx(0.093, abs=0.01)


def test_makes_a_picture_like_those_of_the_data_set() -> None:
    picture = preprocess_photo(photo())[-1]
    assert picture.shape == (28, 28)
    assert picture.dtype == torch.uint8
    rows, columns = (picture > 0).any(dim=1).nonzero(), (picture > 0).any(dim=0).nonzero()
    high, wide = (int(each.max() - each.min()) + 1 for each in (rows, columns))
    assert high == 28  # 160 by 160 pixels
    assert abs(wide - 28 * ASPECT_SCALES[-1]) <= 1
    assert int(picture[14, 14]) == pytest.approx(255 - 0x30, abs=12)  # dark became bright
    assert picture[27, :6].max() == 0  # beside the body
    tall = preprocess_photo(photo().crop((90, 30, 190, 210)).resize((100, 360)))[-1]
    wide = int((tall > 0).any(dim=0).sum())
    left = int((tall > 0).any(dim=0).nonzero().min())
    assert wide < 20
    assert abs(left - (28 - wide) / 2) <= 1  # in the middle


def test_a_picture_of_28_pixels_is_taken_as_it_is() -> None:
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    assert all(torch.equal(each, image) for each in load_views(image))
    assert torch.equal(load_views(image.numpy())[-1], image)
    assert torch.equal(load_views(Image.fromarray(image.numpy()).convert("RGB"))[-1], image)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 2), (7, 9), (28, 29), (3000, 10)])
def test_any_size_and_a_photo_of_nothing(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for image in (Image.fromarray(noise), Image.new("RGB", size, "gray")):
        assert preprocess_photo(image).shape == (NUM_VIEWS, 28, 28)
    assert preprocess_photo(Image.new("RGB", (90, 90), "#808080"))[-1][14, 14] == 127


MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "grey.png": ("L", {}),
    "grey with alpha.png": ("LA", {}),
    "palette.gif": ("P", {}),
    "palette.png": ("P", {}),
    "cmyk.jpg": ("CMYK", {"quality": 95}),
    "colour.jpg": ("RGB", {"quality": 95}),
    "colour.webp": ("RGB", {"lossless": True}),
    "colour.bmp": ("RGB", {}),
    "lab.tif": ("LAB", {}),
    "alpha.png": ("RGBA", {}),
}


@pytest.mark.parametrize("name", MODES)
def test_any_mode_and_format(name: str, tmp_path: Path) -> None:
    mode, options = MODES[name]
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(photo())
    else:
        image = photo().convert(mode)
    image.save(tmp_path / name, **options)
    read = read_photo(tmp_path / name)
    assert read.mode == "RGB"
    assert read.size == (320, 240)
    assert differ(tmp_path / name, photo()) < 10


def test_sixteen_bits(tmp_path: Path) -> None:
    grey = np.asarray(photo().convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert abs(int(np.asarray(read_photo(tmp_path / "deep.png"))[120, 140, 0]) - 0x30) < 24
    Image.fromarray(grey.astype(np.float32) / 65535).save(tmp_path / "float.tif")
    for name in ("deep.png", "float.tif"):
        assert differ(tmp_path / name, photo().convert("L")) < 20  # the brightest becomes white


def test_transparent_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (30, 20, 70, 90))
    image.save(tmp_path / "cut out.png")
    assert read_photo(tmp_path / "cut out.png").getpixel((5, 5)) == (255, 255, 255)
    assert load_views(tmp_path / "cut out.png")[-1][14, 14] > 150


def test_upright_and_the_first_of_an_animation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo().rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert differ(tmp_path / "turned.jpg", photo()) < 10
    frames = [photo(), ImageOps.flip(photo("#ffffff"))]
    frames[0].save(tmp_path / "both.gif", save_all=True, append_images=frames[1:])
    assert differ(tmp_path / "both.gif", photo()) < 10


def test_what_is_wrong_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo().save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    photo().save(tmp_path / "huge.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    warnings.simplefilter("default")  # as outside of tests, where a warning is no error
    for name, message in (
        ("cut.jpg", "it can't be read: .*truncated"),
        ("empty.jpg", "it is not a picture"),
        ("text.jpg", "it is not a picture"),
        ("none.jpg", "there is no such file"),
        ("", "there is no such file"),
        ("pipe.jpg", "there is no such file"),  # reading it would wait for ever
    ):
        with pytest.raises(PhotoError, match=message):
            read_photo(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)  # 320 x 240 are more
    with pytest.raises(PhotoError, match="it has too many pixels"):
        read_photo(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)  # an error of Pillow's, not a warning
    with pytest.raises(PhotoError, match="it has too many pixels"):
        read_photo(tmp_path / "huge.png")


SIDE = 60_000  # pixels: 3.6 billion of them
BOMBS = {
    "png": b"\x89PNG\r\n\x1a\n"
    + b"".join(
        len(content).to_bytes(4, "big")
        + name
        + content
        + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in (
            (b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(10**6))),
            (b"IEND", b""),
        )
    ),
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0)
    + struct.pack("<cHHHHB", b",", 0, 0, SIDE, SIDE, 0)
    + b"\2\2L\1\0;",
    "bmp": b"BM"
    + struct.pack("<IHHI", 60, 0, 0, 54)
    + struct.pack("<IiiHH", 40, SIDE, SIDE, 1, 24)
    + bytes(24),
    "ppm": b"P6 60000 60000 255 " + bytes(9),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_not_unpacked(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(BOMBS[kind])
    with pytest.raises(PhotoError, match="it has too many pixels"):
        read_photo(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((28, 28)),
        *(np.zeros(shape, np.uint8) for shape in (28, (4, 4, 2), (0, 5), (5, 0, 3))),
    ],
)
def test_refuses_other_arrays(array: Any) -> None:
    with pytest.raises(PhotoError, match=r"a picture must be uint8, shape .* not (float64|uint8)"):
        load_views(array)


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in (
        "a/2.jpg",
        "a/1.png",
        "a/deep/3.jpg",
        "a/.hidden",
        "a/.git/4.jpg",
        "b/x.jpg",
        "b/y.gif",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "b").symlink_to(tmp_path / "b")
    found = find_photos(["b/*.jpg", "a", "a/1.png", "gone.jpg"])
    assert [str(path) for path in found] == [
        "b/x.jpg",
        "a/1.png",
        "a/2.jpg",
        "a/deep/3.jpg",
        "gone.jpg",
    ]
    assert [str(path) for path in find_photos(["linked"])] == ["linked/b/x.jpg", "linked/b/y.gif"]
    with pytest.raises(ValueError, match="the name of a photo is empty"):
        find_photos(["a", ""])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no file in empty"):
        find_photos(["empty"])


def test_folders_named_after_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dress").mkdir()
    monkeypatch.chdir(tmp_path / "dress")
    assert labels_from_folder(Path("1.jpg")) == ("Dress",)  # that of the current folder
    assert labels_from_folder(Path("/photos/Ankle-Boot/1.jpg")) == ("Ankle boot",)
    assert labels_from_folder(Path("photos/shoes/1.jpg")) == ("Sandal", "Sneaker", "Ankle boot")
    assert labels_from_folder(Path("photos/longsleeve/1.jpg")) == ("Pullover",)
    assert labels_from_folder(Path("Ankle boot/1.jpg")) == ("Ankle boot",)
    assert labels_from_folder(Path("ankle_boot/1.jpg")) == ("Ankle boot",)
    assert labels_from_folder(Path("T-Shirt/1.jpg")) == ("T-shirt/top",)
    assert labels_from_folder(Path("holidays/1.jpg")) == ()


def test_a_damaged_photo_is_an_item_with_an_error(tmp_path: Path) -> None:
    photo().save(tmp_path / "1.png")
    (tmp_path / "2.png").touch()
    dataset = PhotoDataset([str(tmp_path)])
    (batch,) = photo_loader(dataset)
    assert torch.equal(batch.pictures[0], preprocess_photo(photo()))
    assert list(batch.error) == ["", "it is not a picture"]
    assert batch.thumbnail.shape == (2, 112, 112, 3)
    assert not batch.pictures[1].any()


def test_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for call in (lambda: preprocess_photo(photo()), lambda: PhotoDataset([os.curdir])):
        with pytest.raises(ImportError, match="pip install opencv-python-headless"):
            call()
    small = Image.new("L", (28, 28))
    assert preprocess_photo(small.convert("RGB")).shape == (
        NUM_VIEWS,
        28,
        28,
    )  # needs no ground to be found
