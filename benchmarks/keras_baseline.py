"""Times the work of the article in Keras 3, on TensorFlow or JAX, with `model.fit`."""

import os
import time
from typing import Any

from common import baseline_parser, read_arrays, write_times


def build_model(keras: Any) -> Any:
    """The network of the article, compiled with its loss and optimizer."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layers.Conv2D(6, 5), layers.MaxPooling2D()),
            *(layers.Conv2D(10, 5), layers.MaxPooling2D()),
            *(layers.Flatten(), layers.Dense(56, activation="relu")),
            # Not Keras' sigmoid: on TensorFlow, the loss would get what is in front of it.
            layers.Dense(10, activation=lambda outputs: 1 / (1 + keras.ops.exp(-outputs))),
        ]
    )
    assert model.count_params() == 11_252
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.04), loss=loss, metrics=["accuracy"])
    return model


def build_stopwatch(keras: Any) -> Any:
    """A callback that times each epoch, the part before its validation, and the first batch."""

    class Stopwatch(keras.callbacks.Callback):
        first_batch: float | None = None

        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[dict[str, float]] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.first_batch = self.first_batch or time.time()

        def on_test_begin(self, logs: Any = None) -> None:
            self.trained = time.perf_counter()

        def on_test_end(self, logs: Any = None) -> None:
            self.validated = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs.append(
                {
                    "train": self.trained - self.start,
                    "validation": self.validated - self.trained,
                    "accuracy": logs["val_accuracy"],
                    "epoch": time.perf_counter() - self.start,
                }
            )

    return Stopwatch()


def main() -> None:
    """Trains in the current folder."""
    parser = baseline_parser(__doc__)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    args = parser.parse_args()
    os.environ["KERAS_BACKEND"] = args.backend
    import keras

    keras.utils.set_random_seed(0)
    (images, labels), validation = read_arrays(args.data_dir)
    model, stopwatch = build_model(keras), build_stopwatch(keras)
    model.fit(
        images,
        labels,
        batch_size=args.batch_size,
        epochs=args.epochs,
        validation_data=validation,
        validation_batch_size=500,
        callbacks=[keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True), stopwatch],
    )
    write_times(stopwatch.first_batch, stopwatch.epochs)


if __name__ == "__main__":
    main()
