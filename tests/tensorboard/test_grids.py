import torch

from fmnist_lightning.tensorboard.grids import BACKGROUND, CAPTION, GAP, SCALE, make_image_grid


def test_grid_shows_every_picture_and_its_caption() -> None:
    images = torch.full((5, 28, 28), 255, dtype=torch.uint8)
    grid = make_image_grid(images, ["Bag"] * 5, columns=4)
    side = 28 * SCALE
    assert grid.dtype == torch.uint8
    assert grid.shape == (2 * (side + CAPTION + GAP) + GAP, 4 * (side + GAP) + GAP)
    first = grid[GAP : GAP + side, GAP : GAP + side]
    assert (first == 255).all()
    caption = grid[GAP + side : GAP + side + CAPTION, GAP : GAP + side]
    assert (caption > 150).any()
    assert (grid[-CAPTION - side :, -side:] == BACKGROUND).all()  # no sixth picture


def test_pixels_are_where_they_were() -> None:
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[0, 3, 20] = 200
    grid = make_image_grid(image, [""], columns=1)
    spot = grid[GAP + 3 * SCALE : GAP + 4 * SCALE, GAP + 20 * SCALE : GAP + 21 * SCALE]
    assert (spot == 200).all()
    assert (grid[: GAP + 84] == 200).sum() == SCALE**2
