"""The training loop: resumed, stopped, selected; the loss of an episode."""

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from cryo_fewshot.training import Schedule, episode_loss, fit


class Killed(Exception):
    pass


def train(checkpoint=None, n_epochs=6, stop_after=None, patience=0, flat=False, epochs=None):
    """Fit a line; the loss of step s of epoch e depends on (e, s) alone. Returns the layer, and the history.

    epochs : a list that is told each epoch that was trained
    """
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1)
    model = torch.nn.Sequential(layer)

    def losses(epoch):
        if epoch == stop_after:
            raise Killed
        if epochs is not None:
            epochs.append(epoch)
        for step in range(4):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(100 * epoch + step))
            yield (model(x) - x.sum(1, keepdim=True)).square().mean()

    def validate():
        return 0.5 if flat else -float((layer.weight.detach() - 1).square().sum())

    schedule = Schedule(n_epochs=n_epochs, steps_per_epoch=4, learning_rate=0.1, halve_every=2, patience=patience)
    return layer, fit(model, losses, validate, schedule, checkpoint)


def test_a_resumed_training_has_the_same_bits_as_an_uninterrupted_one(tmp_path):
    model, history = train()
    for stop_after in (1, 4):
        with pytest.raises(Killed):
            train(tmp_path / "c", stop_after=stop_after)
    epochs = []
    resumed, resumed_history = train(tmp_path / "c", epochs=epochs)
    assert epochs == [4, 5]
    assert resumed_history.losses == history.losses
    assert torch.equal(resumed.weight, model.weight)


@pytest.mark.parametrize(("is_flat", "n_done"), [(False, 3), (True, 3), (False, 1)])
def test_the_best_state_is_resumed_and_written_apart_only_where_it_is_not_the_last(tmp_path, is_flat, n_done):
    with pytest.raises(Killed):
        train(tmp_path / "c", stop_after=n_done, flat=is_flat)
    with safe_open(tmp_path / "c", framework="pt") as file:
        assert ("best.0.weight" in file.keys()) == is_flat
    assert torch.equal(train(tmp_path / "c", flat=is_flat)[0].weight, train(flat=is_flat)[0].weight)


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


def scripted(accuracies, patience=0, **settings):
    """Fit a weight whose gradient is always 1, with validation accuracies that are given."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    given, done = iter(accuracies), []
    schedule = Schedule(n_epochs=len(accuracies), steps_per_epoch=1, patience=patience, **settings)
    history = fit(model, lambda epoch: [model.weight.sum()], lambda: next(given), schedule, progress=done.append)
    return model.weight.item(), history, sum(done)


def test_training_stops_after_so_many_epochs_without_a_better_validation():
    accuracies = [0.5, 0.6, 0.5, 0.6, 0.9, 0.9]
    _, history, progress = scripted(accuracies, patience=2)
    assert history.accuracies == accuracies[:4]
    assert progress == 6  # what was spared counts as done
    assert scripted(accuracies, patience=3)[1].accuracies == accuracies
    assert scripted(accuracies, patience=0)[1].accuracies == accuracies
    assert scripted(accuracies, patience=2, min_epochs=5)[1].accuracies == accuracies
    rising = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert scripted(rising, patience=1)[1].accuracies == rising


def test_the_rate_is_halved_every_so_many_epochs():
    # Adam moves a weight of constant gradient by the rate at each step.
    rising = [0.1, 0.2, 0.3, 0.4, 0.5]
    weight, _, _ = scripted(rising, learning_rate=0.1, halve_every=2)
    assert weight == pytest.approx(-0.1 * (1 + 1 + 0.5 + 0.5 + 0.25), rel=1e-5)
    assert scripted(rising, learning_rate=0.1)[0] == pytest.approx(-0.5, rel=1e-5)
    plain = Schedule(n_epochs=3, steps_per_epoch=4)
    assert plain.n_steps == 12 and plain.learning_rate == 1e-4


def test_the_model_ends_in_its_best_state_and_in_evaluation():
    weight, history, progress = scripted([0.5, 0.7, 0.6, 0.7], learning_rate=0.1)
    assert history.best_epoch == 1 and progress == 4
    assert weight == pytest.approx(-0.2, rel=1e-5)
    assert not train()[0].training


def test_steps_are_those_of_torchs_adam():
    model, expected = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    expected.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.1, betas=(0.9, 0.999))
    slopes = [1.0, -2.0, 0.5, 3.0]
    for slope in slopes:
        optimizer.zero_grad()
        (slope * expected.weight).sum().backward()
        optimizer.step()
    schedule = Schedule(n_epochs=1, steps_per_epoch=4, learning_rate=0.1)
    history = fit(model, lambda epoch: ((slope * model.weight).sum() for slope in slopes), lambda: 1.0, schedule)
    assert torch.equal(model.weight, expected.weight)
    assert len(history.losses) == 1 and history.seconds > 0


def test_a_checkpoint_is_safe_before_the_caller_is_told(tmp_path):
    def stop():
        assert (tmp_path / "c").exists()
        raise Killed

    model, schedule = torch.nn.Linear(1, 1, bias=False), Schedule(n_epochs=3, steps_per_epoch=2)
    losses = lambda epoch: (model(torch.ones(1)).square().sum() for _ in range(2))  # noqa: E731
    with pytest.raises(Killed):
        fit(model, losses, lambda: 1.0, schedule, tmp_path / "c", after_checkpoint=stop)
    done = []
    history = fit(model, losses, lambda: 1.0, schedule, tmp_path / "c", progress=done.append)
    assert len(history.losses) == 3 and sum(done) == 6  # the epoch of the checkpoint counts as done


def test_a_checkpoint_of_another_model_means_training_from_the_start(tmp_path):
    model, _ = train()
    other = torch.nn.Linear(2, 1)
    fit(other, lambda epoch: [other.weight.sum()], lambda: 0.0, Schedule(n_epochs=1, steps_per_epoch=1), tmp_path / "c")
    assert torch.equal(train(tmp_path / "c")[0].weight, model.weight)


def test_the_loss_of_an_episode_is_minus_the_mean_log_probability_of_the_true_class():
    logits = torch.randn(2, 6, 3, dtype=torch.float64)  # two episodes, three ways, two queries of each
    true = torch.tensor([0, 0, 1, 1, 2, 2])
    by_hand = [-sum(float(torch.log_softmax(row, 0)[k]) for row, k in zip(e, true, strict=True)) / 6 for e in logits]
    assert float(episode_loss(logits[0])) == pytest.approx(by_hand[0])
    assert float(episode_loss(logits)) == pytest.approx(sum(by_hand) / 2)
    assert torch.equal(episode_loss(logits[0]), F.cross_entropy(logits[0], true))
