import pytest
import torch
from PIL import Image
from samples import photo

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos.dataset import (
    PhotoDataset,
    find_photos,
    label_from_folder,
    photo_loader,
)
from fmnist_lightning.photos.preprocessing import preprocess_photo


def test_find_photos_takes_files_folders_and_patterns(tmp_path):
    photos = ["a/1.png", "a/2.JPG", "a/deep/3.jpeg"]
    others = ["a/deep/paper.pdf", "a/notes.txt"]
    for name in (*photos, *others, "a/.hidden.jpg", "a/.git/4.jpg", "b/x.jpg", "b/y.gif", "b/z"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for names, expected_photos, expected_others in (
        (["b/*.jpg", "a", "a/1.png", "gone.jpg"], ["b/x.jpg", *photos, "gone.jpg"], others),
        (["b/z", "a/deep"], ["b/z", "a/deep/3.jpeg"], ["a/deep/paper.pdf"]),
        (["[ab]"], [*photos, "b/x.jpg", "b/y.gif"], [*others, "b/z"]),
    ):
        found = find_photos(names)
        assert [list(map(str, paths)) for paths in found] == [expected_photos, expected_others]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"there is no photo in empty; give photos"):
        find_photos(["empty"])


def test_label_from_folder_is_the_class_that_it_is_named_after():
    assert label_from_folder("dress", CLASSES) == "Dress"
    assert label_from_folder("Ankle-Boot", CLASSES) == "Ankle boot"
    assert label_from_folder("ankle_boot", CLASSES) == "Ankle boot"
    assert label_from_folder("dress", ("Hat",)) is None
    assert label_from_folder("a", ("a", "A")) == "a"


def test_photo_loader_gives_views_and_errors(tmp_path):
    photo().save(tmp_path / "1.png")
    (tmp_path / "2.png").touch()
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    Image.fromarray(image.numpy()).save(tmp_path / "3.png")
    (batch,) = photo_loader(PhotoDataset([str(tmp_path)], CLASSES))
    for loaded, expected in zip(batch[0].preprocessed, preprocess_photo(photo()), strict=True):
        assert torch.equal(loaded, expected)
    assert not batch[1].preprocessed.views.any()
    assert torch.equal(batch[2].preprocessed.views, image[None])
    assert [item.path.name for item in batch] == ["1.png", "2.png", "3.png"]
    assert [bool(item.error) for item in batch] == [False, True, False]


@pytest.mark.parametrize(("num_photos", "num_workers"), [(15, 0), (40, 1)])
def test_photo_loader_has_workers_for_many_photos(num_photos, num_workers, tmp_path):
    for index in range(num_photos):
        (tmp_path / f"{index}.png").touch()
    loader = photo_loader(PhotoDataset([str(tmp_path)], CLASSES))  # tests run with one thread
    assert loader.num_workers == num_workers
    assert sum(len(batch) for batch in loader) == num_photos
