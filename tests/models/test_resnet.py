import pytest
import torch

from fmnist_lightning import ResNetEnsemble, SmallResNet


def tiny_ensemble():
    return ResNetEnsemble(num_members=3, stem_channels=4, channels=[6], stem_block=False)


def test_stages_are_as_requested():
    network = SmallResNet()
    assert network.features(torch.rand(2, 1, 28, 28)).shape == (2, 128, 3, 3)
    network = SmallResNet(stem_channels=4, channels=[6, 8])
    assert network.features(torch.rand(2, 1, 28, 28)).shape == (2, 8, 7, 7)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_residual_block_adds_to_its_input():
    network = SmallResNet(stem_channels=4, channels=[6]).eval()
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        expected = network.features[:2](images)
        for name, parameter in network.features[2].named_parameters():
            if name.startswith("body.1."):  # so that the block adds 0
                parameter.zero_()
        torch.testing.assert_close(network.features(images), expected)


@pytest.mark.parametrize(("stem", "channels"), [(0, [8]), (8, []), (8, [8, 0]), (8, [8] * 5)])
def test_stages_without_channels_or_pixels_are_refused(stem, channels):
    with pytest.raises(ValueError, match=f"1 to 4 stages.* stem_channels {stem} and channels"):
        SmallResNet(stem, channels)


def test_dropout_changes_outputs_in_training_only():
    network, images = SmallResNet(channels=[8], dropout=0.5), torch.rand(4, 1, 28, 28)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_ensemble_members_train_independently():
    network = tiny_ensemble()
    network(torch.rand(12, 1, 28, 28))[4:8].sum().backward()  # the part of the second member
    grads = [[p.grad for p in member.parameters()] for member in network.members]
    has_grad = [any(g is not None and bool(g.any()) for g in member) for member in grads]
    assert has_grad == [False, True, False]


def test_ensemble_averages_probabilities_in_eval_mode():
    torch.manual_seed(0)
    network, images = tiny_ensemble().eval(), torch.rand(12, 1, 28, 28)
    probabilities = torch.stack([member(images).softmax(dim=1) for member in network.members])
    torch.testing.assert_close(network(images).softmax(dim=1), probabilities.mean(dim=0))
    assert not torch.allclose(probabilities[0], probabilities[1])


def test_number_of_ensemble_members_may_exceed_the_batch():
    for batch_size in (1, 2, 4):
        assert tiny_ensemble()(torch.rand(batch_size, 1, 28, 28)).shape == (batch_size, 10)
    for num_members in (0, 101):
        with pytest.raises(ValueError, match=f"num_members must be 1 to 100, not {num_members}"):
            ResNetEnsemble(num_members)
