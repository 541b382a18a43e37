import torch
from torch import nn

from fmnist_lightning.internals.gradients import attach_gradients


def test_attached_gradients_are_scaled_and_added_up():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    gradient = torch.tensor([1.0, 3.0])
    for _ in range(2):
        loss = attach_gradients(torch.tensor(5.0), [used, unused], [gradient, None])
        assert loss.item() == 5
        (loss / 4).backward()
    assert used.grad.tolist() == [0.5, 1.5]
    attach_gradients(torch.tensor(5.0), [used, unused], [gradient, None]).backward()
    assert used.grad.tolist() == [1.5, 4.5]
    assert unused.grad is None
    assert gradient.tolist() == [1, 3]
