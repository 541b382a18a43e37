"""Times the computation alone: batches in memory before the clock starts, no logs, no metrics."""

import time
from typing import Any

import torch
from common import baseline_parser, write_times
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import ArticleCNN
from fmnist_lightning.data.dataset import read_dataset, split_indices
from fmnist_lightning.data.download import raw_folder
from fmnist_lightning.internals.threads import set_malloc_thresholds


def main() -> None:
    """Trains."""
    parser = baseline_parser(__doc__)
    parser.add_argument("--contiguous", action="store_true", help="not channels_last")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--fused", action="store_true", help="fused kernel of the optimizer")
    parser.add_argument("--threads", type=int, help="number of PyTorch's threads")
    args = parser.parse_args()
    torch.manual_seed(0)
    set_malloc_thresholds()
    if args.threads:
        torch.set_num_threads(args.threads)
    official = read_dataset(raw_folder(args.data_dir), train=True)
    num_train = len(official) * 4 // 5
    train, val = split_indices(len(official), num_train, len(official) - num_train, split_seed=0)
    train_dataset = official.subset(train)
    val_batches = torch.split(official.images[val], 250)
    network: Any = ArticleCNN(sigmoid=True)
    if not args.contiguous:
        network.to(memory_format=torch.channels_last)
    if args.compile:
        network.compile()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04, fused=args.fused or None)

    def compute_loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            return F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels)

    first_batch, epochs = None, []
    for _ in range(args.epochs):
        order = torch.randperm(num_train)
        batches = [train_dataset[index] for index in torch.split(order, args.batch_size)]
        start = time.perf_counter()
        network.train()
        for images, labels in batches:
            first_batch = first_batch or time.time()
            loss = compute_loss(images, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        trained = time.perf_counter()
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            for images in val_batches:
                network(images.unsqueeze(1).float() / 255)
        end = time.perf_counter()
        epochs.append({"train": trained - start, "validation": end - trained, "epoch": end - start})
    write_times(first_batch, epochs)


if __name__ == "__main__":
    main()
