import numpy as np
import pytest
import torch
from PIL import Image
from samples import photo

from fmnist_lightning.data.images import ImageError, load_image, resize_to_grayscale
from fmnist_lightning.photos.preprocessing import preprocess_photo


def view_difference(path, other):
    """Mean absolute difference, 0 to 255, between the last views of a file and of a photo."""
    view, other_view = (
        preprocess_photo(image).views[-1].float() for image in (load_image(path), load_image(other))
    )
    return float((view - other_view).abs().mean())


MODES = {
    "gray.png": ("L", {}),
    "gray with alpha.png": ("LA", {}),
    "palette.gif": ("P", {}),
    "cmyk.jpg": ("CMYK", {"quality": 95}),
    "color.jpg": ("RGB", {"quality": 95}),
    "color.webp": ("RGB", {"lossless": True}),
    "alpha.png": ("RGBA", {}),
}


@pytest.mark.parametrize("name", MODES)
def test_load_image_reads_any_mode_and_format(name, tmp_path):
    mode, options = MODES[name]
    photo().convert(mode).save(tmp_path / name, **options)
    image = load_image(tmp_path / name)
    assert image.mode == "RGB"
    assert image.size == (320, 240)
    assert view_difference(tmp_path / name, photo()) < 10


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_load_image_scales_16_bits_to_8(dtype):
    values = np.array([[0, 257, 65535], [32768, 4, 1000]], dtype)
    image = load_image(Image.fromarray(values))
    assert np.asarray(image)[..., 0].tolist() == [[0, 1, 255], [128, 0, 4]]
    with pytest.raises(ImageError, match="its pixels are floats; save it with 8 or 16 bits"):
        load_image(Image.new("F", (9, 9), 0.5))


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("L", (28, 28), 100), 100),
        (Image.new("RGB", (90, 40), "red"), round(0.299 * 255)),
        (Image.new("RGB", (9, 40), "red").convert("P"), round(0.299 * 255)),
        (Image.new("RGBA", (50, 50), (0, 0, 0, 0)), 255),
        (Image.new("1", (28, 28), 1), 255),
    ],
    ids=["gray", "RGB", "palette", "RGBA", "1 bit"],
)
def test_resize_to_grayscale(image, value):
    pixels = resize_to_grayscale(load_image(image))
    assert (pixels.shape, pixels.dtype) == ((28, 28), torch.uint8)
    assert (pixels.int() - value).abs().max() <= 1


def test_large_photos_are_decoded_at_a_reduced_size(tmp_path):
    Image.effect_noise((4000, 3000), 50).save(tmp_path / "large.jpg")
    assert load_image(tmp_path / "large.jpg").size == (1000, 750)


@pytest.mark.filterwarnings("ignore:.*Corrupt EXIF data")
def test_load_image_applies_the_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show it
    photo().rotate(90, expand=True).save(tmp_path / "rotated.jpg", exif=exif, quality=95)
    assert view_difference(tmp_path / "rotated.jpg", photo()) < 10
    photo().save(tmp_path / "broken.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff", quality=95)
    assert view_difference(tmp_path / "broken.jpg", photo()) < 10


def test_load_image_takes_arrays_and_pillow_images():
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    for source in (image, image.numpy(), Image.fromarray(image.numpy())):
        assert np.array_equal(np.asarray(load_image(source).convert("L")), image)
    assert np.array_equal(np.asarray(load_image(np.asarray(photo()))), np.asarray(photo()))


@pytest.mark.fault("bad_photo")
def test_load_image_error_says_what_is_wrong_with_the_file(tmp_path):
    photo().save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    for name, reason in (
        ("cut.jpg", "can't be read: .*truncated"),
        ("empty.jpg", "can't be read: cannot identify image file"),
        ("text.jpg", "can't be read: cannot identify image file"),
        ("none.jpg", "no such file"),
    ):
        with pytest.raises(ImageError, match=f"^{tmp_path / name}: {reason}"):
            load_image(tmp_path / name)
    image = Image.open(tmp_path / "cut.jpg")  # Pillow decodes it only when it is used
    with image, pytest.raises(ImageError, match=r"^image: can't be read: .*truncated"):
        load_image(image)


BOMB = b"P6 60000 60000 255 " + bytes(9)  # 3.6 billion pixels


@pytest.mark.fault("bad_photo")
def test_load_image_does_not_decompress_bombs(tmp_path):
    (tmp_path / "bomb.ppm").write_bytes(BOMB)
    with pytest.raises(ImageError, match=r"exceeds limit of .* pixels"):
        load_image(tmp_path / "bomb.ppm")


@pytest.mark.parametrize(
    "array",
    [np.zeros((28, 28)), *(np.zeros(shape, np.uint8) for shape in (28, (4, 4, 2)))],
)
def test_load_image_refuses_other_arrays(array):
    with pytest.raises(ImageError, match=r"an image must be uint8, shape .* not (float64|uint8)"):
        load_image(array)
