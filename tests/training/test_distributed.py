"""Two real processes, which talk to each other over gloo, compared with one."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_alike, assert_same_run, curves, free_port
from conftest import DEVICES, MLP, TINY, Run
from processes import Fault, Process, start
from torch import Tensor, nn
from torchvision import models


def start_two(
    *args: str,
    first: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
    faults: tuple[Fault | None, Fault | None] = (None, None),
) -> list[Process]:
    """Starts two processes as ``torchrun`` does; see :func:`processes.start`."""
    common = {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"},
        **{"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"},
    }
    common |= environment or {}
    return [
        start(
            *(*args, *DEVICES),
            first=first,
            fault=fault,
            environment=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank, fault in enumerate(faults)
    ]


def run_two(*args: str, **kwargs: Any) -> str:
    """Runs two processes to their end, and gives what the first one printed."""
    processes = start_two(*args, **kwargs)
    codes = [process.wait() for process in processes]
    assert codes == [0, 0], "\n".join(process.output.read_text() for process in processes)
    return processes[0].output.read_text()


def fit_two(*args: str) -> Path:
    """Fits with two processes, and gives the run's folder."""
    before = set(Path("runs").glob("*"))
    run_two("fit", *TINY, "--trainer.max_epochs", "2", *args)
    (folder,) = set(Path("runs").iterdir()) - before
    return folder


class Witness(nn.Module):
    """An augmentation that leaves the pictures alone, and writes down what it saw and drew."""

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else "alone"
        seen = [int(image.sum()) for image in images.int()]
        with Path(f"seen-{rank}.txt").open("a") as stream:
            print(json.dumps({"seen": seen, "drawn": float(torch.rand(()))}), file=stream)
        return images

    @staticmethod
    def notes(rank: int | str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(f"seen-{rank}.txt").read_text().splitlines()]


def test_two_processes_train_as_one(fit: Callable[..., Path]) -> None:
    options = (*MLP, "--model.augmentation", "test_distributed.Witness")
    ours, theirs = fit(*options), fit_two(*options)

    alone, *both = (Witness.notes(each) for each in ("alone", 0, 1))
    assert len(alone) == len(both[0]) == len(both[1]) == 20
    for one, first, second in zip(alone, *both, strict=True):
        assert sorted(one["seen"]) == sorted(first["seen"] + second["seen"])
        assert first["drawn"] != second["drawn"]

    assert_alike(ours, theirs)
    # Only the first process writes.
    assert _files(ours) == _files(theirs)


def _files(folder: Path) -> list[str]:
    """The files of a run, without the parts of names that tell logs apart."""
    return sorted(path.name.split(".tfevents")[0] for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("eval_batch_size", ["8", "104"])
def test_each_picture_is_counted_once(
    eval_batch_size: str, fit: Callable[..., Path], run: Run
) -> None:
    # 105 test pictures and 119 for validation; with 104, one process has a batch more.
    odd = (*TINY, "--data.val_size", "119")
    network = ("--model.network", "fmnist_lightning.RegularizedCNN")  # batch normalisation
    folder = fit(*odd, *network)
    for command, name in (("test", "test.json"), ("validate", "validate.json")):
        options = (command, "--ckpt_path", "best.ckpt", "--data.eval_batch_size", eval_batch_size)
        assert run(*options)[0] == 0
        alone = json.loads((folder / name).read_text())
        (folder / name).unlink()
        run_two(*options)
        both = json.loads((folder / name).read_text())
        assert both["classes"] == alone["classes"]
        assert both["correct"] == alone["correct"]
        assert both["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert both["ece"] == pytest.approx(alone["ece"], rel=1e-5)


def test_batch_normalisation_and_shares_that_differ_in_fit(data_dir: Path) -> None:
    network = (
        "--model.network",
        "fmnist_lightning.SmallResNet",
        "--model.network.stem_channels",
        "4",
    )
    odd = ("--data.val_size", "105", "--data.eval_batch_size", "104", "--data.train_size", "481")
    folder = fit_two(*network, "--model.network.channels", "[4, 8, 8]", *odd)
    assert [step for step, _ in curves(folder)["val/loss"]] == [9, 19]


def count_downloads() -> None:
    """Puts a download in the place of the real one that notes that it happened."""

    def download(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
        with Path("downloads.txt").open("a") as stream:
            print(url, file=stream)
        time.sleep(5)  # or the second process might find it done by chance
        torch.save(models.get_model("shufflenet_v2_x0_5").state_dict(), dst)

    torch.hub.download_url_to_file = download


@pytest.mark.slow
def test_weights_are_downloaded_once(data_dir: Path, tmp_path: Path) -> None:
    network = ("--model.network", "fmnist_lightning.PretrainedNetwork")
    name = ("--model.network.name", "shufflenet_v2_x0_5", "--model.network.image_size", "32")
    environment = {"TORCH_HOME": str(tmp_path / "weights")}
    steps = ("--trainer.max_steps", "1", "--trainer.limit_val_batches", "1")
    options = (*TINY, *network, *name, *steps)
    run_two("fit", *options, first=count_downloads, environment=environment)
    assert len(Path("downloads.txt").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_goes_on_after_one_of_its_processes_was_killed(
    victim: int, fit: Callable[..., Path]
) -> None:
    network = ("--model.network=fmnist_lightning.RegularizedCNN", "--model.network.dropout=0.3")
    options = (*network, "--model.augmentation=fmnist_lightning.RandomAugmentation")
    whole = fit_two(*options)
    step = "fmnist_lightning.training.module.FashionClassifier.training_step"
    faults = (Fault(step, 15), None) if victim == 0 else (None, Fault(step, 15))
    both = start_two("fit", *TINY, "--trainer.max_epochs", "2", *options, faults=faults)
    assert both[victim].wait() == -signal.SIGKILL
    assert both[1 - victim].wait() == 1
    said = both[1 - victim].output.read_text()
    assert "error: another process of this run has ended; its own output says why" in said
    assert "Traceback" not in said
    assert ("stopped after step 14; to go on from step 10: " in said) == (victim == 1)
    time.sleep(1)  # TensorBoard sorts its files by the second in which they were begun
    run_two("fit", "--ckpt_path", "last")
    (resumed,) = set(Path("runs").iterdir()) - {whole}
    assert_same_run(whole, resumed)
