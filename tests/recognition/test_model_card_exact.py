"""What is shown of a training while it runs."""

from contextlib import contextmanager
from types import SimpleNamespace

from cryo_fewshot.recognition import model_card
from cryo_fewshot.training import History


def test_progress_is_counted_in_volumes(monkeypatch, tmp_path, tiny):
    shown, spec = [], tiny()

    @contextmanager
    def bar(total, is_shown):
        shown.append(total)
        yield SimpleNamespace(update=shown.append)

    def trained(spec, checkpoint, progress, after_epoch, start):
        progress(3)
        return "encoder", History([0.5], [1.0])

    monkeypatch.setattr(model_card, "progress_bar", bar)
    monkeypatch.setattr(model_card, "train", trained)
    monkeypatch.setattr(model_card, "measured", lambda *_: {})
    monkeypatch.setattr(model_card, "save_encoder", lambda *_: None)
    model_card.pretrain(spec, tmp_path / "encoder")
    assert shown == [spec.cost, 3 * spec.volumes_per_step]
