"""Few-shot tasks on one labelled tomogram: no shared voxels, halves apart, and a score that knows chance."""

from dataclasses import replace

import numpy as np
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition import benchmark as room
from cryo_fewshot.recognition.benchmark import benchmark, labelled_tomogram, open_tomogram_folder, wide_table
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.weights import load_encoder

NM, CLASSES = 3.2, ("small", "large")  # nm, not the 3 nm of the encoder; the classes of `tomogram`


@pytest.fixture(scope="module")
def data(tmp_path_factory, encoder_path, tomogram):
    folder = tmp_path_factory.mktemp("tomogram")
    volume, table = tomogram(np.random.default_rng(0))
    write_mrc(folder / "tomo.mrc", volume, NM)
    volume[:, 140:] = np.random.default_rng(1).normal(size=(40, 60, 200))  # two rows become background
    table.iloc[:54].to_csv(folder / "places.csv", index=False)
    particles = open_particles(folder / "tomo.mrc", coordinates=folder / "places.csv", label_column="class")
    encoder, card = load_encoder(encoder_path)
    return labelled_tomogram(particles, encoder, card, folder / "cache"), Calibration.from_json(card["calibration"])


def test_sizes_are_told_apart_and_shuffled_labels_are_not(data):
    labelled, calibration = data
    tasks = {"two": CLASSES}
    assert labelled.edge == 12 and labelled.widths == (9, 3) and labelled.volumes.shape[1:] == (12, 12, 12)
    assert labelled.features.shape == (len(labelled.labels), labelled.background.shape[1])
    found = benchmark(labelled, calibration, tasks, shots=(3,), halves=("all",), n_episodes=5)
    accuracy = found.set_index("method")["accuracy"]
    assert accuracy[room.TOOL] > 0.9 and accuracy["profile and power"] > 0.9
    assert found.set_index("method")["background_auroc"].notna().sum() == 1
    assert (found["low"] <= found["accuracy"]).all() and (found["accuracy"] <= found["high"]).all()
    assert wide_table(found).loc[room.TOOL].item().startswith(f"{accuracy[room.TOOL]:.3f} (")
    shuffled = np.random.default_rng(1).permutation(labelled.labels)
    chance = benchmark(
        replace(labelled, labels=shuffled), calibration, tasks, shots=(3,), halves=("all",), n_episodes=5
    )
    assert chance.set_index("method")["accuracy"][room.TOOL] < 0.7


def test_other_methods_take_the_place_of_the_tool(data):
    def right(support, queries, boxes):
        return np.where(data[0].labels[queries] == CLASSES[0], 0, 1)

    settings = {"shots": (3,), "halves": ("all",), "n_episodes": 2}
    found = benchmark(data[0], None, {"two": CLASSES}, methods={"told": right}, **settings)
    assert found[["method", "accuracy"]].values.tolist() == [["told", 1.0]]


def test_queries_share_no_voxel_with_the_support_and_the_halves_none_with_each_other(data):
    labelled, _ = data
    crowded = replace(labelled, centres=labelled.centres * 0.5)
    pools = [np.flatnonzero(labelled.labels == name) for name in CLASSES]
    for support, queries in room.draw_episodes(crowded, pools, 2, 5, np.random.default_rng(0)):
        apart = np.abs(crowded.centres[support.ravel(), None] - crowded.centres[np.concatenate(queries)]).max(-1)
        assert apart.min() >= crowded.edge
    even, odd = (np.flatnonzero(crowded.half(name)) for name in ("even", "odd"))
    assert len(even) and len(odd) and not crowded.overlaps(even)[:, odd].any()


def test_a_task_without_enough_places_is_left_out_and_none_at_all_is_an_error(data):
    labelled, calibration = data
    with pytest.raises(UserError, match="no box of class 'huge'; there are large, small"):
        benchmark(labelled, calibration, {"two": ("small", "huge")})
    with pytest.raises(UserError, match="above 0, as in 1,5,10"):
        room.numbers_in("1,five")
    with pytest.raises(UserError, match="label more places"):
        benchmark(labelled, calibration, {"two": CLASSES}, shots=(60,), n_episodes=2)


def test_a_folder_of_grey_codes_is_read_as_its_tomogram(tmp_path, tomogram):
    volume, table = tomogram(np.random.default_rng(2))
    low, high = float(volume.min()), float(volume.max())
    codes = np.round((volume - low) / (high - low) * 254).astype(np.uint8)
    np.savez(tmp_path / "t_bin16.npz", codes=codes, min=low, max=high, num_steps=255, voxel_A=10 * NM)
    table.to_csv(tmp_path / "t_coordinates.csv", index=False)
    particles = open_tomogram_folder(tmp_path, tmp_path / "unpacked")
    assert particles.labels == table["class"].tolist() and particles.voxel_size_nm == pytest.approx(NM)
    box, _ = particles.source.opened()(0)
    np.testing.assert_allclose(box, codes[13:27, 13:27, 13:27] / 254 * (high - low) + low, atol=1e-3)
    with pytest.raises(UserError, match=r"0 files \*_bin\*.npz and 0 \*coordinates"):
        open_tomogram_folder(tmp_path / "unpacked", tmp_path)
    (tmp_path / "u_coordinates.csv").write_text("x,y,z,class\n")
    with pytest.raises(UserError, match=r"1 files \*_bin\*.npz and 2 \*coordinates"):
        open_tomogram_folder(tmp_path, tmp_path)
    (tmp_path / "u_coordinates.csv").unlink()
    (tmp_path / "u_bin16.npz").touch()
    with pytest.raises(UserError, match=r"2 files \*_bin\*.npz and 1 \*coordinates"):
        open_tomogram_folder(tmp_path, tmp_path)
