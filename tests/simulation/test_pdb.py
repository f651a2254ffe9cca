"""Coordinate files read as point masses."""

import numpy as np
import pytest


def test_a_residue_weighs_the_same_however_much_of_it_is_modelled(small_pdb, tmp_path):
    pytest.importorskip("gemmi")
    from cryo_fewshot.simulation.pdb import read_atoms

    (tmp_path / "full.pdb").write_text(small_pdb())
    (tmp_path / "trace.pdb").write_text(small_pdb(atoms=("CA",)))
    full, trace = (read_atoms(tmp_path / f"{name}.pdb", "as-is")[1] for name in ("full", "trace"))
    assert len(full) == 3 * len(trace)
    assert full.sum() == pytest.approx(trace.sum()) == pytest.approx(8 * 0.07108, rel=1e-3)  # alanine: 71.08 Da


def test_positions_are_zyx_in_nm(small_pdb, tmp_path):
    pytest.importorskip("gemmi")
    from cryo_fewshot.simulation.pdb import read_atoms

    (tmp_path / "small.pdb").write_text(small_pdb(atoms=("CA",)))
    positions, _ = read_atoms(tmp_path / "small.pdb", "as-is")
    np.testing.assert_allclose(positions[5], [0.1, 1.0, 2.0])  # written as x 20, y 10, z 1 A
