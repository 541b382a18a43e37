"""Times the work of the article in Flax on JAX: a jitted step over images on the device."""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import read_arrays
from flax.serialization import to_bytes
from flax.training.train_state import TrainState
from timing import Stopwatch, baseline_parser


class CNN(nn.Module):
    """The network of the article."""

    @nn.compact
    def __call__(self, images: Any) -> Any:
        """Images (N, 28, 28, 1) to the article's outputs (N, 10)."""
        maps = images
        for channels in (6, 10):
            maps = nn.Conv(channels, (5, 5), padding="VALID")(maps)
            maps = nn.max_pool(maps, (2, 2), strides=(2, 2))
        hidden = nn.relu(nn.Dense(56)(maps.reshape(len(maps), -1)))
        return nn.sigmoid(nn.Dense(10)(hidden))


def compute_loss(params: Any, state: TrainState, images: Any, labels: Any) -> tuple[Any, Any]:
    """The mean cross-entropy, and the number of correct predictions."""
    outputs = state.apply_fn(params, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
    return losses.mean(), (outputs.argmax(1) == labels).sum()


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, images: Any, labels: Any, index: Any) -> tuple[TrainState, Any]:
    """One step on the images at ``index``."""
    gradient = jax.value_and_grad(compute_loss, has_aux=True)
    (loss, correct), grads = gradient(state.params, state, images[index], labels[index])
    return state.apply_gradients(grads=grads), (loss, correct)


evaluate = jax.jit(compute_loss)


def main() -> None:
    """Trains in the current folder."""
    args = baseline_parser(__doc__).parse_args()
    train, validation = read_arrays()
    images, labels = (jnp.asarray(array) for array in train)
    val_batches = [
        tuple(jnp.asarray(array[start : start + 500]) for array in validation)
        for start in range(0, len(validation[0]), 500)
    ]
    params = CNN().init(jax.random.PRNGKey(0), images[:1])
    assert sum(array.size for array in jax.tree.leaves(params)) == 11_252
    state = TrainState.create(apply_fn=CNN().apply, params=params, tx=optax.sgd(0.04))
    generator = np.random.default_rng(0)
    stopwatch, lowest = Stopwatch(), float("inf")
    for epoch in range(1, args.epochs + 1):
        stopwatch.start()
        order = generator.permutation(len(images)).astype(np.int32)
        results = []
        for first in range(0, len(order), args.batch_size):
            index = order[first : first + args.batch_size]
            state, result = train_step(state, images, labels, index)
            results.append(result)
        train_loss = float(np.mean([float(loss) for loss, _ in results]))
        stopwatch.lap()
        results = [evaluate(state.params, state, *batch) for batch in val_batches]
        val_loss = float(np.mean([float(loss) for loss, _ in results]))
        num_correct = sum(int(correct) for _, correct in results)
        stopwatch.lap()
        print(f"epoch {epoch}: loss {train_loss:.4f}, val loss {val_loss:.4f}, {num_correct} right")
        if val_loss < lowest:
            lowest = val_loss
            Path("best.msgpack").write_bytes(to_bytes(state.params))
    stopwatch.write()


if __name__ == "__main__":
    main()
