import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from samples import photo

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos.images import (
    PhotoDataset,
    PhotoError,
    find_photos,
    labels_from_folder,
    load_image,
    photo_loader,
)
from fmnist_lightning.photos.preprocessing import preprocess_photo


def view_difference(path: Path, other: Image.Image) -> float:
    """Mean absolute difference, 0 to 255, between the last views of a file and of a photo."""
    view, other_view = (
        preprocess_photo(image).views[-1].float() for image in (load_image(path), load_image(other))
    )
    return float((view - other_view).abs().mean())


MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "gray.png": ("L", {}),
    "gray with alpha.png": ("LA", {}),
    "palette.gif": ("P", {}),
    "palette.png": ("P", {}),
    "cmyk.jpg": ("CMYK", {"quality": 95}),
    "color.jpg": ("RGB", {"quality": 95}),
    "color.webp": ("RGB", {"lossless": True}),
    "color.bmp": ("RGB", {}),
    "alpha.png": ("RGBA", {}),
}


@pytest.mark.parametrize("name", MODES)
def test_load_image_reads_any_mode_and_format(name: str, tmp_path: Path) -> None:
    mode, options = MODES[name]
    photo().convert(mode).save(tmp_path / name, **options)
    image = load_image(tmp_path / name)
    assert image.mode == "RGB"
    assert image.size == (320, 240)
    assert view_difference(tmp_path / name, photo()) < 10


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_load_image_scales_more_than_8_bits_so_that_the_brightest_pixel_is_white(
    dtype: type, tmp_path: Path
) -> None:
    values: np.ndarray[Any, Any] = np.array([[0, 257, 65535], [32768, 4, 65534]], dtype)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    image = load_image(tmp_path / "deep.tif")
    assert np.asarray(image)[..., 0].tolist() == [[0, 1, 255], [128, 0, 255]]
    dark = Image.fromarray((values // 128).astype(dtype))
    assert np.asarray(load_image(dark)).max() == 255


def test_load_image_makes_transparent_pixels_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (30, 20, 70, 90))
    image.save(tmp_path / "cut out.png")
    loaded = load_image(tmp_path / "cut out.png")
    assert loaded.getpixel((5, 5)) == (255, 255, 255)
    assert preprocess_photo(loaded).views[-1][14, 14] > 150


def test_load_image_applies_the_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show it
    photo().rotate(90, expand=True).save(tmp_path / "rotated.jpg", exif=exif, quality=95)
    assert view_difference(tmp_path / "rotated.jpg", photo()) < 10


def test_load_image_reads_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [photo(), ImageOps.flip(photo("#ffffff"))]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    assert view_difference(tmp_path / "animation.gif", photo()) < 10


def test_load_image_takes_arrays_and_pillow_images() -> None:
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    for source in (image, image.numpy(), Image.fromarray(image.numpy())):
        assert np.array_equal(np.asarray(load_image(source).convert("L")), image)
    assert np.array_equal(np.asarray(load_image(np.asarray(photo()))), np.asarray(photo()))


@pytest.mark.fault("bad_photo")
def test_load_image_error_says_what_is_wrong_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo().save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    photo().save(tmp_path / "huge.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    warnings.simplefilter("default")  # as outside of tests
    for name, reason in (
        ("cut.jpg", "can't be read: .*truncated"),
        ("empty.jpg", "not an image file"),
        ("text.jpg", "not an image file"),
        ("none.jpg", "no such file"),
        ("", "no such file"),
        ("pipe.jpg", "no such file"),  # reading it would block
    ):
        with pytest.raises(PhotoError, match=f"^{tmp_path / name}: {reason}"):
            load_image(tmp_path / name)
    image = Image.open(tmp_path / "cut.jpg")  # Pillow decodes it only when it is used
    with image, pytest.raises(PhotoError, match=r"^image: can't be read: .*truncated"):
        load_image(image)
    # 320x240 pixels: Pillow warns above its limit, and raises above twice that.
    for limit in (50_000, 20_000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(PhotoError, match="exceeds the pixel limit"):
            load_image(tmp_path / "huge.png")


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


@pytest.mark.fault("bad_photo")
@pytest.mark.parametrize("suffix", BOMBS)
def test_load_image_does_not_decompress_bombs(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(BOMBS[suffix])
    with pytest.raises(PhotoError, match="exceeds the pixel limit"):
        load_image(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((28, 28)),
        *(np.zeros(shape, np.uint8) for shape in (28, (4, 4, 2), (0, 5), (5, 0, 3))),
    ],
)
def test_load_image_refuses_other_arrays(array: Any) -> None:
    with pytest.raises(PhotoError, match=r"an image must be uint8, shape .* not (float64|uint8)"):
        load_image(array)


def test_find_photos_takes_files_folders_and_patterns(tmp_path: Path) -> None:
    photos = ["a/1.png", "a/2.JPG", "a/deep/3.jpeg"]
    others = ["a/deep/paper.pdf", "a/notes.txt"]
    hidden = ["a/.hidden.jpg", "a/.git/4.jpg"]
    for name in (*photos, *others, *hidden, "b/x.jpg", "b/y.gif", "b/plain"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    for names, expected_photos, expected_others in (
        (["b/*.jpg", "a", "a/1.png", "gone.jpg"], ["b/x.jpg", *photos, "gone.jpg"], others),
        (["b/plain", "a/deep"], ["b/plain", "a/deep/3.jpeg"], ["a/deep/paper.pdf"]),
        (["[ab]"], [*photos, "b/x.jpg", "b/y.gif"], [*others, "b/plain"]),
    ):
        found = find_photos(names)
        assert [list(map(str, paths)) for paths in found] == [
            expected_photos,
            expected_others,
        ]
    with pytest.raises(ValueError, match="the name of a photo is empty"):
        find_photos(["a", ""])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"there is no photo in empty; give photos, or their folders"
    ):
        find_photos(["empty"])


def test_labels_from_folder_knows_class_names_and_their_synonyms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dress").mkdir()
    monkeypatch.chdir(tmp_path / "dress")
    for path, labels in {
        "1.jpg": ("Dress",),  # the name of the current folder
        "/photos/Ankle-Boot/1.jpg": ("Ankle boot",),
        "photos/shoes/1.jpg": ("Sandal", "Sneaker", "Ankle boot"),
        "photos/longsleeve/1.jpg": ("Pullover",),
        "Ankle boot/1.jpg": ("Ankle boot",),
        "ankle_boot/1.jpg": ("Ankle boot",),
        "T-Shirt/1.jpg": ("T-shirt/top",),
        "holidays/1.jpg": (),
    }.items():
        assert labels_from_folder(Path(path), CLASSES) == labels
    others = ("Shoes", "Sandal", "Hat")  # a class of one's own goes first
    for folder, expected in (("shoes", ("Shoes",)), ("hat", ("Hat",)), ("pants", ())):
        assert labels_from_folder(Path(folder, "1.jpg"), others) == expected


def test_photo_loader_gives_views_thumbnails_and_errors(tmp_path: Path) -> None:
    photo().save(tmp_path / "1.png")
    (tmp_path / "2.png").touch()
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    Image.fromarray(image.numpy()).save(tmp_path / "3.png")
    (batch,) = photo_loader(PhotoDataset([str(tmp_path)]))
    for loaded, expected in zip(batch[0].preprocessed, preprocess_photo(photo()), strict=True):
        assert torch.equal(loaded, expected)
    assert not batch[1].preprocessed.views.any()
    assert torch.equal(batch[2].preprocessed.views, image[None])
    assert [item.thumbnail.shape for item in batch] == 3 * [(112, 112, 3)]
    assert [item.file_index for item in batch] == [0, 1, 2]
    assert [item.error for item in batch] == ["", f"{tmp_path / '2.png'}: not an image file", ""]


@pytest.mark.parametrize(("num_photos", "num_workers"), [(15, 0), (40, 1)])
def test_photo_loader_has_workers_for_many_photos(
    num_photos: int, num_workers: int, tmp_path: Path
) -> None:
    for index in range(num_photos):
        (tmp_path / f"{index}.png").touch()
    loader = photo_loader(PhotoDataset([str(tmp_path)]))  # tests run with one thread
    assert loader.num_workers == num_workers
    assert sum(len(batch) for batch in loader) == num_photos
