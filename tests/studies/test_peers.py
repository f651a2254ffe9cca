"""The peers: invariants, templates, pairing; their tasks are those of the tables."""

import runpy
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation
from studies import peers, peers_features, peers_tables, peers_template, peers_trained
from studies.peers import DATA, Method, PeerEvaluation, accuracy, difference
from studies.peers import test_classes as classes_of_tables  # not a test
from studies.peers_features import Boxes

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.datasets import simulate_set

BY_ACRYO = f"{peers.TRUE_MAP}, by acryo"


def blobs(rotation: Rotation, box: int = 20) -> torch.Tensor:
    """Three Gaussian balls, rotated about the middle of the box."""
    centres = rotation.apply([[4.0, 0, 0], [0, 3.0, 1.0], [-1.0, -2.0, 3.0]])
    line = np.arange(box) - box // 2
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    squared = ((places[..., None, :] - centres) ** 2).sum(-1)
    return torch.from_numpy((np.exp(-squared / 8) * [1.0, 2.0, 3.0]).sum(-1).astype(np.float32))


def test_harmonic_powers_do_not_see_a_rotation():
    upright, turned = (blobs(Rotation.random(rng=seed)) for seed in (0, 1))
    one, other = peers_features.harmonics(torch.stack([upright, turned]), 4)
    torch.testing.assert_close(one[:7], other[:7], rtol=0.05, atol=0.02 * float(one.max()))
    assert float((upright - turned).abs().max()) > 1


def test_harmonic_powers_of_degree_zero_are_shell_means():
    found = peers_features.harmonics(torch.full((1, 20, 20, 20), 2.0), 2)[0]
    torch.testing.assert_close(found[:, 0], torch.full((9,), 4 * 4 * np.pi), rtol=1e-4, atol=0)
    assert float(found[:, 1:].max()) < 1e-6


@pytest.fixture(scope="module")
def boxes():
    """Two particles of each of two complexes, hardly any noise."""
    names, data = ("1PMA", "2CG9"), replace(DATA, n_per_class=2)
    volumes = simulate_set(data, {2.0: 2}, names).volumes
    return Boxes(volumes, volumes, np.repeat(names, 2), data.microscope)


def test_templates_find_the_class(boxes):
    search = {"grid_degrees": 30.0, "mask_nm": 10.0, "band_nm": 6.0}
    support, queries = np.array([[0], [2]]), np.array([1, 3])
    by_structure = peers_template.by_structures(boxes, of=peers_template.structure, **search)
    for predict in (by_structure, peers_template.by_labelled(boxes, **search)):
        assert predict(support, queries, np.arange(4)).tolist() == [0, 1]


def test_another_package_is_handed_the_templates_of_a_task(boxes, monkeypatch):
    """One that takes the template most like the particle in the middle of the box, unrotated."""

    def handed(templates, mask, rotations, tilts, shift):
        assert (len(rotations), tilts, shift) == (21, (-60, 60), 2.0)
        return lambda volume: int(np.argmax([(mask * volume * one).sum() for one in templates]))

    monkeypatch.setitem(peers_template.PACKAGES, "own", handed)
    particle = boxes.asked[3:4]
    own = replace(boxes, labelled=torch.cat([-particle, particle]), asked=particle, labels=np.array(["1PMA", "2CG9"]))
    predict = peers_template.by_package(own, "own", "labelled", grid_degrees=90.0, mask_nm=10.0)
    assert predict(np.array([[0], [1]]), np.array([0]), np.arange(2)).tolist() == [1]


def test_a_ball_is_dark_and_as_large_as_its_complex_is_heavy(boxes):
    heavy, light = (peers_template.sphere(name, boxes.microscope) for name in ("1PMA", "2CG9"))
    assert float(heavy[9:12, 9:12, 9:12].mean()) < -2  # protein is dark, the ball in the middle
    assert int((heavy < -2).sum()) > int((light < -2).sum()) > 0


def test_right_answers_are_counted_query_by_query(monkeypatch):
    """A method that is right about the first query of every class and wrong about the others."""

    def make(particles):
        return lambda support, queries, _: np.where(queries == queries.reshape(2, -1)[:, :1].repeat(3, 1).ravel(),
                                                    np.arange(2).repeat(3), -1)  # fmt: skip

    monkeypatch.setitem(peers.METHODS, "first", Method("nothing", make))
    monkeypatch.setitem(peers.METHODS, "dear", Method("nothing", make, is_dear=True))
    tasks = {"data": replace(DATA, n_per_class=6), "classes": ("1PMA", "2CG9"), "snr": 1.0, "n_way": 2, "n_shot": 1}
    runner = type("Runner", (), {"check_time": staticmethod(lambda: None)})
    result = PeerEvaluation(method="first", n_query=3, n_episodes=4, **tasks).run(runner)
    dear = PeerEvaluation(method="dear", n_query=3, n_episodes=2, **tasks).run(runner)
    assert (result["n_correct"], result["few"]) == ([2] * 4, ["110000"] * 4)
    assert accuracy(result)[0] == pytest.approx(1 / 3) and accuracy(dear)[2] == 2 * 6
    assert difference(result, dear)[0] == 0


def test_tasks_are_those_of_the_tables():
    cell = table_1(profile_named("finished"), snrs=[0.1], shots=[1], methods=["ProtoNet3D"])[0].evaluation
    own = PeerEvaluation(method="shell powers", data=DATA, classes=classes_of_tables(), snr=0.1, n_shot=1, n_episodes=9)
    assert (own.data, own.classes) == (cell.novel_data, cell.novel_classes)
    assert own.episodes().digest == cell.episodes()[:9].digest


def test_the_table_says_what_was_not_run():
    columns = ["method", "snr", "n_shot", "accuracy", "ci95", "n", "gain", "gain_ci95"]
    rows = [
        ("another network", 0.1, 1, 0.25, 0.01, 300, 0.5, 0.02),
        (peers.CLASSIFY, 0.1, 1, 0.75, 0.01, 300, np.nan, np.nan),
        (peers.SPHERE, 0.1, 5, 0.5, 0.01, 300, 0.25, 0.02),
        (BY_ACRYO, 0.1, 5, 0.95, 0.1, 20, 0.05, 0.1),
    ]
    table = peers_tables.simulated_table(pd.DataFrame(rows, columns=columns)).T
    assert list(table) == [
        BY_ACRYO,
        peers.SPHERE,
        peers.CLASSIFY,
        "another network",
    ]  # methods first, in their order
    shown = "0.500 ±\u00a00.010<br><small>+0.250 ±\u00a00.020</small>"
    assert table[peers.SPHERE].tolist() == ["the mass of every class", "not run", shown]
    assert table[peers.CLASSIFY].tolist() == ["labels, an encoder", "0.750 ±\u00a00.010", "not run"]
    assert table[BY_ACRYO]["5 labels, SNR 0.1"] == "19 of 20<br><small>+0.050</small>"


def test_triplets_are_semi_hard_a_negative_less_like_by_up_to_the_margin():
    angles = torch.tensor([0.0, 60.0, 35.0, 80.0]).deg2rad()  # of class 0, 0, 1, 1
    embeddings = torch.stack([angles.cos(), angles.sin()], 1)
    pair, far, pair_of_1 = (torch.tensor(angle).deg2rad().cos() for angle in (60.0, 80.0, 45.0))
    # All other negatives are more like the first of the pair than the second is.
    losses = [peers_trained.MARGIN - (pair - far), peers_trained.MARGIN - (pair_of_1 - far)]
    found = peers_trained.triplet_loss(3 * embeddings, torch.tensor([0, 0, 1, 1]))
    assert float(found) == pytest.approx(float(sum(losses)) / 2, rel=1e-5)


def test_a_training_that_learns_nothing_stops_after_an_epoch():
    checked = []
    watched = peers_trained.Watched(type("Runner", (), {"check_time": staticmethod(lambda: checked.append(1))}))
    labels = torch.tensor([0, 0, 1, 1])
    watched(torch.eye(4)[[0, 0, 1, 1]] + 0.5, labels)
    watched.after_epoch()
    watched(torch.ones(4, 3), labels)
    with pytest.raises(UserError, match=r"loss of 1 steps is 0\.53900, its margin.* give a lower --rate"):
        watched.after_epoch()
    assert len(checked) == 1


def test_another_network_is_trained_in_two_calls_and_asked_for_the_tasks(tmp_path, monkeypatch, capsys):
    training = peers_trained.peer_training("TomoTwin", "triplets", 100, width=32)
    small = replace(training.training, n_way=5, n_query=1, n_selection_samples=4, n_selection_episodes=5)
    training = replace(training, training=small, n_episodes=3)
    monkeypatch.setattr(peers_trained, "peer_training", lambda *how: training)
    monkeypatch.setattr(peers_trained, "DATA", replace(DATA, n_per_class=16))
    for name, part in (("PAPER_SNRS", (0.1,)), ("PAPER_SHOTS", (1,))):
        monkeypatch.setattr(peers_trained, name, part)
    for more in (["--minutes", "0"], ["--out", str(tmp_path / "out")]):
        monkeypatch.setattr(sys, "argv", ["train_peer.py", "--results", str(tmp_path / "results"), *more])
        runpy.run_path(str(REPOSITORY / "scripts" / "train_peer.py"), run_name="__main__")
    stopped, done = capsys.readouterr().out.splitlines()
    assert "run the same command to resume" in stopped and done.startswith(f"Done: {tmp_path / 'out'}")
    ((row, entry),) = peers_trained.trained_rows(Store(tmp_path / "results")).items()
    assert row == "TomoTwin's network, half as wide, 100 volumes" and entry["result"]["parameters"] == 19_410_688
    mean, _, n = accuracy(peers_trained.tasks_of(entry, 0.1, 1)["result"])
    assert n == 3 * 75 and 0 <= mean <= 1
    (weights,) = (tmp_path / "out").glob("*.safetensors")
    peers_trained.TomoTwin(width=32).load_state_dict(load_file(weights))


@pytest.mark.parametrize(("n_volumes", "epochs", "steps"), [(300, 3, 1), (5_000, 5, 10), (480_000, 48, 100)])
def test_trainings_can_be_stopped_after_a_fifth_or_10_000_volumes(n_volumes, epochs, steps):
    schedule = peers_trained.peer_training("TomoTwin", "triplets", n_volumes).training.schedule
    assert (schedule.n_epochs, schedule.steps_per_epoch) == (epochs, steps)
