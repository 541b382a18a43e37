"""Composes dashboard.png of the figures in a run's TensorBoard log: give the run folder."""

import io
import sys
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COLUMNS = [
    ["test/confusion matrix", "test/reliability diagram"],
    ["training images", "test/feature maps"],
    ["test/most confident misclassified"],
]
WIDTH, GAP = 400, 8  # pixels

events = EventAccumulator(sys.argv[1], size_guidance={"images": 0}).Reload()
sheet = Image.new("RGB", (len(COLUMNS) * WIDTH, 2 * WIDTH + 2 * GAP), "white")
for column, tags in enumerate(COLUMNS):
    top = 0
    for tag in tags:
        image = Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string))
        image = image.resize((WIDTH - GAP, (WIDTH - GAP) * image.height // image.width))
        sheet.paste(image, (column * WIDTH, top))
        top += image.height + GAP
sheet.quantize(64).save(Path(__file__).with_suffix(".png"), optimize=True)
