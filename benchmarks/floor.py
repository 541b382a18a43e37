"""The computation itself: batches that are cut already, and nothing around the network."""

import time
from typing import Any

import torch
from contest import parser, write
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import ArticleCNN
from fmnist_lightning.data.dataset import read_dataset, split_indices
from fmnist_lightning.data.download import raw_folder


def main() -> None:
    """Trains."""
    options_of = parser(__doc__)
    options_of.add_argument("--contiguous", action="store_true", help="not channels_last")
    options_of.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options_of.add_argument("--compile", action="store_true", help="torch.compile")
    options_of.add_argument("--fused", action="store_true", help="the optimiser's fused kernel")
    options_of.add_argument("--threads", type=int, help="of PyTorch")
    options = options_of.parse_args()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    official = read_dataset(raw_folder(options.data_dir), train=True)
    train, val = split_indices(len(official), options.train_size, options.val_size, seed=0)
    train_dataset = official.subset(train)
    val_batches = torch.split(official.images[val], 500)
    network: Any = ArticleCNN(sigmoid=True)
    if not options.contiguous:
        network.to(memory_format=torch.channels_last)
    if options.compile:
        network.compile()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04, fused=options.fused or None)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            return F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels)

    first_batch, epochs = None, []
    for _ in range(options.epochs):
        order = torch.randperm(options.train_size)
        batches = [train_dataset[index] for index in torch.split(order, options.batch_size)]
        start = time.perf_counter()
        network.train()
        for images, labels in batches:
            first_batch = first_batch or time.time()
            loss = loss_of(images, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        middle = time.perf_counter()
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            for images in val_batches:
                network(images.unsqueeze(1).float() / 255)
        end = time.perf_counter()
        epochs.append({"train": middle - start, "validation": end - middle, "epoch": end - start})
    write(first_batch, epochs)


if __name__ == "__main__":
    main()
