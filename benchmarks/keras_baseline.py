"""Times the work of the article in Keras 3, on TensorFlow or JAX, with `model.fit`."""

import os
from typing import Any

from common import read_arrays
from timing import Stopwatch, baseline_parser


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


def main() -> None:
    """Trains in the current folder."""
    parser = baseline_parser(__doc__)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    args = parser.parse_args()
    os.environ["KERAS_BACKEND"] = args.backend
    import keras

    keras.utils.set_random_seed(0)
    (images, labels), validation = read_arrays()
    model, stopwatch = build_model(keras), Stopwatch()
    model.fit(
        images,
        labels,
        batch_size=args.batch_size,
        epochs=args.epochs,
        validation_data=validation,
        validation_batch_size=500,
        callbacks=[
            keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda *_: stopwatch.start(),
                on_test_begin=lambda *_: stopwatch.lap(),
                on_test_end=lambda *_: stopwatch.lap(),
            ),
        ],
    )
    stopwatch.write()


if __name__ == "__main__":
    main()
