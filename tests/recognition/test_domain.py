"""How classes scatter in the data: better where the encoder's own geometry is wrong, harmless where it is right."""

import numpy as np
import pytest
import torch

from cryo_fewshot.recognition.calibration import class_model
from cryo_fewshot.recognition.domain import FEWEST, lifted, reason_not_to_fit, space_of_data
from cryo_fewshot.recognition.plda import PLDA

N_AXES, DIM = 6, 10
SPACE = PLDA(mean=np.zeros(DIM), axes=np.eye(DIM)[:, :N_AXES], between=np.geomspace(1, 12, N_AXES))


def particles(n_way, n_each, rng, widest=0.0, numbers=0):
    """`(n_way, n_each, DIM + numbers)` as SPACE expects them; if `widest`, with as much scatter along every axis too.

    Of the numbers behind the embedding the first tells the classes apart and the others are noise.
    """
    centres = rng.normal(size=(n_way, 1, DIM)) * np.r_[np.sqrt(SPACE.between), np.zeros(DIM - N_AXES)]
    x = centres + rng.normal(size=(n_way, n_each, DIM))
    x += widest * rng.normal(size=(n_way, n_each, 1)) * np.r_[np.ones(N_AXES), np.zeros(DIM - N_AXES)]
    behind = rng.normal(size=(n_way, n_each, numbers))
    behind[..., :1] += 6 * np.arange(n_way)[:, None, None]
    return torch.from_numpy(np.concatenate([x, behind], axis=2)).float()


def accuracies(n_shot, n_way=4, asked=None, unknown=0, n_each=60, n_trials=20, **kind):
    """Mean accuracy with the encoder's own geometry and with that of the data.

    asked : classes that the queries are of, default all; unknown : classes among them that have no label
    """
    found, rng = [], np.random.default_rng(0)
    for _ in range(n_trials):
        x = particles(n_way + unknown, n_each + n_shot, rng, **kind)
        support, members = x[:n_way, :n_shot].flatten(0, 1), torch.eye(n_way).repeat_interleave(n_shot, 0)
        queries = x[: asked or n_way, n_shot:]
        unlabelled = torch.cat([queries.flatten(0, 1), x[n_way:, n_shot:].flatten(0, 1)])
        width = x.shape[2] - DIM
        spaces = lifted(SPACE, width), space_of_data(SPACE, (width,) if width else (), support, members, unlabelled)
        right = []
        for space in spaces:
            model = class_model(space, space.project(support), members)
            predicted = model.log_likelihoods(space.project(queries)).argmax(-1)
            right.append(float((predicted == torch.arange(len(queries))[:, None]).float().mean()))
        found.append(right)
    return np.mean(found, axis=0)


@pytest.mark.parametrize("n_shot", [1, 5])
def test_scatter_that_the_encoder_did_not_foresee_is_found(n_shot):
    own, fitted = accuracies(n_shot, widest=2.0)
    assert fitted > own + 0.1


def test_numbers_behind_the_embedding_count_where_they_tell_something():
    own, fitted = accuracies(1, numbers=3)
    assert fitted > own + 0.05


@pytest.mark.parametrize(
    "case",
    [{}, {"asked": 1}, {"unknown": 3}, {"n_each": 15}, {"n_way": 2}],
    ids=["all classes", "one class alone", "unknown classes", "few particles", "two classes"],
)
@pytest.mark.parametrize("n_shot", [1, 5])
def test_no_harm_where_the_encoder_is_right(case, n_shot):
    own, fitted = accuracies(n_shot, **case)
    assert fitted > own - 0.03


def quiet(rows):
    return torch.zeros(())


def test_with_too_few_particles_nothing_is_fitted():
    x, one = particles(1, FEWEST, np.random.default_rng(0))[0], torch.ones(2, 2)
    five = torch.ones(10, 2)  # two classes of five: eight particles repeat their class, as good as forty unlabelled
    assert "too few particles" in reason_not_to_fit(quiet, (), x[:2], one, x[:49])
    assert not reason_not_to_fit(quiet, (), x[:2], one, x[:50])
    assert not reason_not_to_fit(quiet, (), x[:10], five, x[:10])
    x[0] = torch.nan
    assert "too few particles" in reason_not_to_fit(quiet, (), x[:10], five, x[:10])


@pytest.mark.parametrize(
    ("shift", "noisier", "reason"),
    [(0.9, 0.0, "power per Fourier shell"), (0.1, 0.0, ""), (0.0, 0.9, "noise"), (0.0, -0.9, "noise"), (0.0, 0.2, "")],
)
def test_nothing_is_fitted_to_particles_of_another_source(shift, noisier, reason):
    """Numbers behind the embedding: 3 of a profile, 2 of power."""
    rng = np.random.default_rng(0)
    known, query = particles(3, 5, rng, numbers=5), particles(3, 40, rng, numbers=5).flatten(0, 1)
    for rows in (known, query):
        rows[..., -2:] = rows[..., -2:] / 10
    query[:, -2:] += shift

    def of_classes(n_shot):
        return known[:, :n_shot].flatten(0, 1), torch.eye(3).repeat_interleave(n_shot, 0)

    support, members = of_classes(2)

    def log_snr(rows):
        return torch.tensor(noisier if len(rows) == len(query) else 0.0)

    found = reason_not_to_fit(log_snr, (5,), support, members, query)
    assert reason in found and bool(found) == bool(reason)
    assert not reason_not_to_fit(log_snr, (5,), support, members, query, one_source=True)
    if reason == "noise":  # three labels a class hold the fit
        assert not reason_not_to_fit(log_snr, (5,), *of_classes(5), query)


def test_columns_behind_the_embedding_do_not_count_in_the_lifted_geometry():
    x = torch.randn(5, DIM + 2)
    assert torch.equal(lifted(SPACE, 2).project(x), SPACE.project(x[:, :DIM]))
