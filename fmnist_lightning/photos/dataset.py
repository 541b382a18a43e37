"""Finds and reads photos of garments."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fmnist_lightning.data.dataset import IMAGE_SIZE
from fmnist_lightning.data.images import ImageError, find_images, load_image
from fmnist_lightning.photos.preprocessing import PreprocessedPhoto, preprocess_photo


class Photo(NamedTuple):
    """An item of :class:`PhotoDataset`."""

    preprocessed: PreprocessedPhoto
    path: Path
    error: str  # why the file can't be read; empty if it can


class PhotoDataset(Dataset[Photo]):
    """The photos of :func:`find_photos`; a file that can't be read is an item with an error."""

    def __init__(self, names: Sequence[str], classes: Sequence[str]) -> None:
        self.classes = classes
        self.paths, self.other_files = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        try:
            photo, error = load_image(self.paths[index]), ""
        except ImageError as reason:
            photo, error = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE)), str(reason)
        return Photo(preprocess_photo(photo, self.classes), self.paths[index], error)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Lists of 16 photos, from worker processes if there are many, as segmentation takes time."""
    num_workers = min(torch.get_num_threads(), len(dataset) // 16, 8)
    return DataLoader(dataset, batch_size=16, num_workers=num_workers, collate_fn=list)


def find_photos(names: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The photos in files, folders (with all folders below) and glob patterns, and other files.

    A name without a match is one of the photos. Hidden files of folders are left out.
    """
    photos: dict[Path, None] = {}
    other_files: dict[Path, None] = {}
    for name in names:
        for match in [name] if os.path.exists(name) else sorted(glob.glob(name)) or [name]:
            is_folder = os.path.isdir(match)
            images, others = find_images(match) if is_folder else ([Path(match)], [])
            photos |= dict.fromkeys(images)
            other_files |= dict.fromkeys(others)
    if not photos:
        raise ValueError(f"there is no photo in {', '.join(names)}; give photos, or their folders")
    return list(photos), list(other_files)


def label_from_folder(folder: str, classes: Sequence[str]) -> str | None:
    """The class that the folder of a photo is named after, such as ``ankle-boot``, if any."""
    separators = re.compile(r"[\W_]+")
    if folder in classes:  # which may differ by punctuation alone
        return folder
    labels = {separators.sub(" ", name.lower()): name for name in classes}
    return labels.get(separators.sub(" ", folder.lower()))
