"""Times the computation alone: batches in memory before the clock starts, no logs, no metrics."""

import torch
from common import Stopwatch, baseline_parser
from torch.nn import functional as F

from fmnist_lightning import ArticleCNN
from fmnist_lightning.data.dataset import read_dataset, split_indices
from fmnist_lightning.data.download import raw_folder
from fmnist_lightning.internals.threads import set_malloc_thresholds


def main() -> None:
    """Trains."""
    args = baseline_parser(__doc__).parse_args()
    torch.manual_seed(0)
    set_malloc_thresholds()
    official = read_dataset(raw_folder(args.data_dir), train=True)
    num_train = len(official) * 4 // 5
    train, val = split_indices(len(official), num_train, len(official) - num_train, split_seed=0)
    train_dataset = official.subset(train)
    val_batches = torch.split(official.images[val], 250)
    network = ArticleCNN(sigmoid=True).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04)
    stopwatch = Stopwatch()
    for _ in range(args.epochs):
        order = torch.randperm(num_train)
        batches = [train_dataset[index] for index in torch.split(order, args.batch_size)]
        stopwatch.start()
        network.train()
        for images, labels in batches:
            loss = F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
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
