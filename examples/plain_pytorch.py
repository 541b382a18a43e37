"""A CNN that classifies Fashion-MNIST, in plain PyTorch: the program of the article.

    python examples/plain_pytorch.py

Downloads the dataset to `data/` if it is not there, trains for 15 epochs, keeps the weights with
the lowest validation loss, tests them, and predicts the class of one image. About 78 % accuracy.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, random_split
from torchvision import datasets, transforms

Batches = DataLoader[tuple[Tensor, Tensor]]
Images = Dataset[tuple[Tensor, Tensor]]


class CNN(nn.Module):
    """The network of the article: 11,252 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, 6, kernel_size=5),  # (N, 6, 24, 24)
            nn.MaxPool2d(2),  # (N, 6, 12, 12)
            nn.Conv2d(6, 10, kernel_size=5),  # (N, 10, 8, 8)
            nn.MaxPool2d(2),  # (N, 10, 4, 4)
        )
        self.head = nn.Sequential(
            nn.Flatten(),  # (N, 160)
            nn.Linear(160, 56),
            nn.ReLU(),
            nn.Linear(56, 10),
            nn.Sigmoid(),  # as published; without it, the loss gets logits and accuracy is 88 %
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images, float, shape (N, 1, 28, 28), to scores between 0 and 1, shape (N, 10)."""
        scores: Tensor = self.head(self.features(images))
        return scores


def load_datasets(data_dir: str) -> tuple[Images, Images, datasets.FashionMNIST]:
    """48,000 images for training, 12,000 for validation, 10,000 for the test."""
    to_tensor = transforms.ToTensor()  # float, shape (1, 28, 28), values 0 to 1
    official = datasets.FashionMNIST(data_dir, train=True, download=True, transform=to_tensor)
    test = datasets.FashionMNIST(data_dir, train=False, download=True, transform=to_tensor)
    train, val = random_split(official, [0.8, 0.2])
    return train, val, test


def train_epoch(
    network: nn.Module, batches: Batches, loss_fn: nn.Module, optimizer: torch.optim.Optimizer
) -> float:
    """Trains on every batch once; returns the mean loss."""
    device = next(network.parameters()).device
    total, num_images = 0.0, 0
    network.train()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_fn(network(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        num_images += len(labels)
    return total / num_images


@torch.no_grad()
def evaluate(network: nn.Module, batches: Batches, loss_fn: nn.Module) -> tuple[float, int, int]:
    """Returns the mean loss, the number of correct predictions and the number of images."""
    device = next(network.parameters()).device
    total, num_correct, num_images = 0.0, 0, 0
    network.eval()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        scores = network(images)
        total += loss_fn(scores, labels).item() * len(labels)
        num_correct += int((scores.argmax(dim=1) == labels).sum())
        num_images += len(labels)
    return total / num_images, num_correct, num_images


def main() -> None:
    """Trains, tests, and predicts the class of one image."""
    parser = argparse.ArgumentParser(description="Classify Fashion-MNIST in plain PyTorch.")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train, val, test = load_datasets(args.data_dir)
    train_batches = DataLoader(train, args.batch_size, shuffle=True)
    val_batches = DataLoader(val, args.batch_size)
    test_batches = DataLoader(test, args.batch_size)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = CNN().to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04)

    lowest = float("inf")
    for epoch in range(1, args.epochs + 1):
        train_loss = train_epoch(network, train_batches, loss_fn, optimizer)
        val_loss, _, _ = evaluate(network, val_batches, loss_fn)
        print(f"epoch {epoch}/{args.epochs}: train loss {train_loss:.4f}, val loss {val_loss:.4f}")
        if val_loss <= lowest:
            print(f"  val loss is at or below its minimum ({lowest:.4f}): weights saved to best.pt")
            lowest = val_loss
            torch.save(network.state_dict(), "best.pt")

    network.load_state_dict(torch.load("best.pt", weights_only=True))
    test_loss, num_correct, num_images = evaluate(network, test_batches, loss_fn)
    accuracy = 100 * num_correct / num_images
    print(f"test loss {test_loss:.4f}, accuracy {accuracy:.2f} % ({num_correct:,}/{num_images:,})")

    image, label = test[9]
    with torch.no_grad():
        predicted = int(network(image.unsqueeze(0).to(device)).argmax())
    print(f"test image 9: predicted {test.classes[predicted]}, label {test.classes[label]}")


if __name__ == "__main__":
    main()
