"""Times the computation alone: batches in memory before the clock starts, no logs, no metrics.

On a GPU, forward and backward pass are one CUDA graph, and the optimizer is fused.
"""

from collections.abc import Callable

import torch
from timing import Stopwatch, baseline_parser
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import ArticleCNN
from fmnist_lightning.data.dataset import read_dataset
from fmnist_lightning.data.download import raw_folder
from fmnist_lightning.internals.process import prepare_memory

Step = Callable[[Tensor, Tensor], object]


def capture(forward_backward: Step, images: Tensor, labels: Tensor) -> Step:
    """The same as one CUDA graph, for batches of the same size."""
    images, labels = images.clone(), labels.clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        forward_backward(images, labels)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward_backward(images, labels)

    def replay(new_images: Tensor, new_labels: Tensor) -> None:
        images.copy_(new_images)
        labels.copy_(new_labels)
        graph.replay()

    return replay


def main() -> None:
    """Trains."""
    args = baseline_parser(__doc__).parse_args()
    torch.manual_seed(0)
    prepare_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    official = read_dataset(raw_folder("data"), train=True)
    num_train = len(official) * 4 // 5
    train_dataset = official.subset(torch.arange(num_train)).to(device)
    val_images = official.images[num_train:].to(device)
    val_batches = torch.split(val_images, 250 if device.type == "cpu" else 1000)
    network = ArticleCNN(sigmoid=True).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04, fused=device.type == "cuda")

    def forward_backward(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels)
        loss.backward()  # type: ignore[no-untyped-call]

    step: Step = forward_backward
    stopwatch = Stopwatch()
    for epoch in range(args.epochs):
        order = torch.randperm(num_train).to(device)
        batches = [train_dataset[index] for index in torch.split(order, args.batch_size)]
        stopwatch.start()
        network.train()
        if epoch == 0 and device.type == "cuda":
            step = capture(forward_backward, *batches[0])
        for images, labels in batches:
            (step if len(labels) == args.batch_size else forward_backward)(images, labels)
            optimizer.step()
        stopwatch.lap()
        network.eval()
        with torch.no_grad():
            for images in val_batches:
                network(images.unsqueeze(1).float() / 255)
        stopwatch.lap()
        stopwatch.lap()  # the epoch ends before the next batches are made
    stopwatch.write()


if __name__ == "__main__":
    main()
