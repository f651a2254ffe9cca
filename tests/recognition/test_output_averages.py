"""Which particles are averaged, how, and what is written of it; the search for poses is taken out."""

from types import SimpleNamespace

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.fourier import MASK_SHARE
from cryo_fewshot.recognition import output
from cryo_fewshot.recognition.settings import Settings


class Query(SimpleNamespace):
    """Particles of so many voxels; what is read of them is recorded."""

    def read(self, chosen, box, nm):
        self.asked.append((list(chosen), box, nm))
        rejected = {i: "damaged" for i in chosen if i in self.damaged}
        return torch.arange(len(chosen)).view(-1, 1, 1, 1).float(), rejected


def refined(seed=0):
    density, *halves = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    one, *both = (SimpleNamespace(density=part) for part in (density, *halves))
    curve = np.array([1.0, 0.987654, 0.5])
    return SimpleNamespace(
        average=one,
        half_maps=both,
        frequencies_per_nm=np.array([0, 0.1234567, 0.25]),
        corrected_fsc=curve,
        fsc=curve / 2,
        resolution_text="3.0 nm",
    )


@pytest.fixture
def averaged(monkeypatch):
    """Function: (out, table, groups, query fields, settings) -> averages, lines said, what was refined."""

    def of(out, table, groups=None, settings=None, fails=(), **fields):
        query = Query(**({"box": 20, "voxel_size_nm": 1.5, "asked": [], "damaged": ()} | fields))
        calls, lines = [], []

        def refine(volumes, series, seed, groups):
            calls.append((volumes.flatten().tolist(), series, seed, groups))
            if len(calls) in fails:
                raise UserError("no two halves")
            return refined()

        monkeypatch.setattr(output, "refine", refine)
        monkeypatch.setattr(output, "overlapping", lambda q, rows, within: (rows.tolist(), round(within, 6)))
        found = output.write_averages(out, query, table, ["a", "b"], groups or {}, settings or Settings(), lines.append)
        return found, lines, calls, query

    return of


def table_of(n=30):
    rows = np.arange(n)
    return pd.DataFrame(
        {"class": np.where(rows < 20, "a", "b"), "accepted": rows != 3, "probability": 0.5 + 0.01 * (rows % 20 // 2)}
    )


def test_the_most_probable_accepted_particles_are_averaged_the_first_of_equals_first(tmp_path, averaged):
    table = table_of()
    found, lines, calls, query = averaged(tmp_path, table, settings=Settings(n_averaged=9, seed=4), damaged=(17,))
    assert [chosen for chosen, *_ in query.asked] == [
        [18, 19, 16, 17, 14, 15, 12, 13, 10],
        [28, 29, 26, 27, 24, 25, 22, 23, 20],
    ]
    assert query.asked[0][1:] == (20, 1.5) and list(found) == ["a", "b"]
    volumes, series, seed, (rows, within) = calls[0]
    assert volumes == [0, 1, 2, 4, 5, 6, 7, 8] and rows == [18, 19, 16, 14, 15, 12, 13, 10]
    assert seed == 4 and series.width_nm == 30 and within == pytest.approx(MASK_SHARE * 30)
    np.testing.assert_allclose(series.tilt_angles, np.arange(-60, 61, 3))
    assert lines[:2] == ["averaging 9 particles of class a", "class a: 3.0 nm"]


def test_of_fewer_than_eight_there_is_no_average(tmp_path, averaged):
    table = table_of(28)  # eight of b
    assert list(averaged(tmp_path, table)[0]) == ["a", "b"]
    found, lines, *_ = averaged(tmp_path, table.drop(index=27))
    assert list(found) == ["a"] and "class b: 7 accepted particles, too few to average" in lines
    assert averaged(tmp_path, table, settings=Settings(n_averaged=0))[:2] == ({}, [])


def test_groups_of_rejected_particles_are_averaged_as_they_are_listed(tmp_path, averaged):
    groups = {"rejected group 1": np.arange(9, -1, -1)}
    found, lines, _, query = averaged(tmp_path, table_of(), groups, fails=(1,))
    assert query.asked[2][0] == list(range(9, -1, -1)) and "averaging 10 particles of rejected group 1" in lines
    assert list(found) == ["b", "rejected group 1"] and "class a: not averaged: no two halves" in lines
    assert (tmp_path / "averages" / "rejected_group_1.mrc").exists()
    assert not (tmp_path / "averages" / "a.mrc").exists()


@pytest.mark.parametrize(
    ("box", "nm", "wanted_nm", "expected"),
    [(20, 1.5, 1.0, (20, 1.5)), (40, 1.0, 2.0, (20, 2.0)), (41, 1.0, 2.0, (20, 2.0)), (43, 1.0, 2.0, (22, 2.0)),
     (12, 1.0, 4.0, (8, 4.0))],
)  # fmt: skip
def test_voxels_of_an_average_are_never_finer_than_those_of_the_files(tmp_path, averaged, box, nm, wanted_nm, expected):
    settings = Settings(average_voxel_nm=wanted_nm, tilt_min=-40.0, tilt_max=50.0, tilt_increment=10.0)
    _, _, calls, query = averaged(tmp_path, table_of(), settings=settings, box=box, voxel_size_nm=nm)
    assert query.asked[0][1:] == expected and calls[0][1].width_nm == expected[0] * expected[1]
    np.testing.assert_allclose(calls[0][1].tilt_angles, np.arange(-40, 51, 10))


def test_maps_are_written_with_protein_bright_and_their_curve(tmp_path):
    output._write_average(tmp_path / "a.mrc", refined(), 1.5)
    one = refined()
    for name, average in zip(("a", "a_half1", "a_half2"), (one.average, *one.half_maps), strict=True):
        with mrcfile.open(tmp_path / f"{name}.mrc") as file:
            np.testing.assert_array_equal(file.data, -average.density.numpy())
            assert float(file.voxel_size.x) == pytest.approx(15)
    assert (tmp_path / "a_fsc.csv").read_text().splitlines() == [
        "frequency_per_nm,fsc,fsc_masked",
        "0.0,1.0,0.5",
        "0.12346,0.98765,0.49383",
        "0.25,0.5,0.25",
    ]
