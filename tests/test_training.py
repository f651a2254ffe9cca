"""The training loop: resumed, stopped, selected; the loss of an episode."""

import pytest
import torch

from cryo_fewshot.training import Schedule, fit


class Killed(Exception):
    pass


def train(checkpoint=None, n_epochs=6, stop_after=None, patience=0, flat=False):
    """Fit a line; the loss of step s of epoch e depends on (e, s) alone."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)

    def losses(epoch):
        if epoch == stop_after:
            raise Killed
        for step in range(4):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(100 * epoch + step))
            yield (model(x) - x.sum(1, keepdim=True)).square().mean()

    def validate():
        return 0.5 if flat else -float((model.weight.detach() - 1).square().sum())

    schedule = Schedule(n_epochs=n_epochs, steps_per_epoch=4, learning_rate=0.1, halve_every=2, patience=patience)
    return model, fit(model, losses, validate, schedule, checkpoint)


def test_a_resumed_training_has_the_same_bits_as_an_uninterrupted_one(tmp_path):
    model, history = train()
    for stop_after in (1, 4):
        with pytest.raises(Killed):
            train(tmp_path / "c", stop_after=stop_after)
    resumed, resumed_history = train(tmp_path / "c")
    assert resumed_history.losses == history.losses
    assert torch.equal(resumed.weight, model.weight)


def test_a_damaged_checkpoint_means_training_from_the_start(tmp_path):
    model, _ = train()
    with pytest.raises(Killed):
        train(tmp_path / "c", stop_after=3)
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:100])
    assert torch.equal(train(tmp_path / "c")[0].weight, model.weight)


def test_the_model_with_the_best_validation_is_kept_the_earliest_of_equals():
    _, history = train(flat=True, patience=2)
    assert history.best_epoch == 0
    assert len(history.losses) == 3, "two epochs without a better one end the training"
