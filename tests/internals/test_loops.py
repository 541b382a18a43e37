import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop

from fmnist_lightning.internals.loops import set_loop


def test_unknown_lightning_keeps_its_own_loop(monkeypatch, capsys):
    monkeypatch.setattr(lightning, "__version__", "2.7.0")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    set_loop(trainer, fast_loop=True)
    assert type(trainer.fit_loop) is _FitLoop
    assert "Lightning 2.7.0 runs its own loop" in capsys.readouterr().out
