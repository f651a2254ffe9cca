"""Which reader is given which input, and what of the arguments it gets."""

import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles import opening
from cryo_fewshot.particles.opening import open_particles

READERS = ("open_star", "open_npz", "open_folder", "open_stack", "open_coordinates")


class Chosen(Exception):
    """Name of the reader, and what it was given."""


@pytest.fixture
def chosen(monkeypatch, tmp_path):
    """`chosen(name, **arguments)` of a file or folder of tmp_path, which is made where it is not there."""
    set_members = opening.set_members

    def members(path):
        assert path.suffix.lower() == ".star"
        return set_members(path)

    for reader in READERS:

        def read(*given, reader=reader, **named):
            raise Chosen(reader, given, named)

        monkeypatch.setattr(opening, reader, read)
    monkeypatch.setattr(opening, "set_members", members)

    def call(name, **arguments):
        path = tmp_path / name
        if not path.exists():
            path.touch() if path.suffix else path.mkdir()
        with pytest.raises(Chosen) as found:
            open_particles(path, **arguments)
        return found.value.args

    return call


@pytest.mark.parametrize(
    ("name", "arguments", "reader"),
    [
        ("a.star", {}, "open_star"),
        ("a.STAR", {}, "open_star"),
        ("a.npz", {}, "open_npz"),
        ("folder", {}, "open_folder"),
        ("a.mrc", {}, "open_stack"),
        ("a.em", {}, "open_stack"),
        *((f"a{kind}", {}, "open_coordinates") for kind in (".json", ".tbl", ".mod", ".MOD")),
        ("a.star", {"tomogram": "t.mrc"}, "open_coordinates"),
        ("a.npz", {"coordinates": "c.csv"}, "open_coordinates"),
        ("folder", {"coordinates": "c.csv"}, "open_coordinates"),
    ],
)
def test_each_kind_of_input_has_its_reader(name, arguments, reader, chosen):
    assert chosen(name, **arguments)[0] == reader


@pytest.mark.parametrize("ending", [".zz", ".a"])
def test_a_folder_of_any_name_is_a_folder_unless_it_is_a_zarr_image(ending, chosen, tmp_path):
    for name in (f"set{ending}", "set.zarr"):
        (tmp_path / name).mkdir()
    with pytest.raises(Chosen, match="open_folder"):
        open_particles(tmp_path / f"set{ending}")
    with pytest.raises(UserError, match="not an input that is recognised"):
        open_particles(tmp_path / "set.zarr")


def test_readers_are_told_all_that_was_given(chosen, tmp_path):
    (tmp_path / "root").mkdir()
    told = {"label_column": "kind", "file_voxel_size_nm": 1.5}
    path, root = tmp_path / "a.star", tmp_path / "root"
    given = chosen("a.star", **told, root=str(root), tomograms_star="t.star")[1]
    assert given == (path, "kind", 1.5, root, "t.star")
    for name in ("a.npz", "folder", "a.mrc"):
        assert chosen(name, **told)[1] == (tmp_path / name, 1.5)
    told |= {"box_nm": 30.0, "coordinate_voxel_size_nm": 2.0, "pad_edges": True, "picks": None}
    assert chosen("a.tbl", **told, tomogram="t") == (
        "open_coordinates",
        (tmp_path / "a.tbl",),
        {**told, "tomogram": "t", "coordinates": None},
    )


def test_of_an_optimisation_set_the_members_are_read_and_what_is_given_comes_first(chosen, tmp_path, files):
    (tmp_path / "geometry.star").touch()
    for kind, column in (("images", "rlnImageName"), ("picks", "rlnCoordinateX")):
        files.star_of(tmp_path / f"{kind}.star", [column], [("1",)])
        lines = f"_rlnTomoParticlesFile {kind}.star\n_rlnTomoTomogramsFile geometry.star\n"
        (tmp_path / f"{kind}_set.star").write_text(f"data_\n\n{lines}")
    images, picks, geometry = (tmp_path / f"{name}.star" for name in ("images", "picks", "geometry"))
    assert chosen("images_set.star")[:2] == ("open_star", (images, None, None, None, geometry))
    assert chosen("images_set.star", tomograms_star="given")[1][-1] == "given"
    for given, told in ((None, geometry), ("given", "given")):
        reader, (path,), named = chosen("picks_set.star", tomogram=given)
        assert (reader, path, named["tomogram"]) == ("open_coordinates", picks, told)


def test_picks_are_of_a_copick_project_alone_and_a_root_is_a_folder(tmp_path):
    (tmp_path / "a.star").touch()
    with pytest.raises(UserError, match=r"picks=me \(--picks\): .*a.star is not a copick project"):
        open_particles(tmp_path / "a.star", picks="me")
    with pytest.raises(UserError, match=r"gone \(--root\): no such folder.*names in a.star are"):
        open_particles(tmp_path / "a.star", root=tmp_path / "gone")
