"""The bundled library against the files it was made from; PDB entries fetched from a server on this machine."""

import csv
import gzip
import hashlib
import importlib.util
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation import structures
from cryo_fewshot.simulation.structures import class_keys, load_complex, registry

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY.parent / "shared" / "structures"
needs_source = pytest.mark.skipif(not SOURCE.is_dir(), reason="the source structures (../shared/structures) are absent")
TABLE = registry()
COORDINATE_KEYS = list(TABLE.index[TABLE["assembly"] != "map"])
MAP_KEYS = list(TABLE.index[TABLE["assembly"] == "map"])
MASS_EXCEPTIONS = {}  # key -> why its mass differs by more than 10 % from the listed one


# --- the library ------------------------------------------------------------------------------------------------------


def test_library_is_small_and_holds_what_the_registry_lists():
    sizes = {path.name: path.stat().st_size for path in structures.LIBRARY.iterdir()}
    assert sizes.pop("encoder.safetensors", 0) < 4_000_000
    assert sum(sizes.values()) < 2_000_000
    for name, class_set in {"beads.npz": "library", "averages.npz": "average"}.items():
        with np.load(structures.LIBRARY / name, allow_pickle=False) as archive:
            assert archive.files == list(class_keys(class_set))
    assert TABLE.index.is_unique


@pytest.mark.parametrize("key", TABLE.index)
def test_beads_are_centred_positive_and_agree_with_the_registry(key):
    loaded, row = load_complex(key), TABLE.loc[key]
    assert loaded.positions_nm.dtype == loaded.masses_kda.dtype == np.float32
    assert len(loaded.masses_kda) == row["n_beads"]
    assert (loaded.masses_kda > 0).all()
    assert loaded.masses_kda.sum() == pytest.approx(row["mass_kda"], rel=1e-3)
    centre = np.average(loaded.positions_nm, axis=0, weights=loaded.masses_kda)
    np.testing.assert_allclose(centre, 0, atol=0.002)
    # A bead is at most half the diagonal of a cell inside the outermost atom, at either end.
    radius = np.linalg.norm(loaded.positions_nm, axis=1).max()
    assert row["max_diameter_nm"] / 2 - 2 < radius < row["max_diameter_nm"]


def test_class_sets():
    assert class_keys() == class_keys("paper22")
    assert len(class_keys("paper22")) == len(class_keys("pdb22")) == 22
    assert "pdb:1LB3" in class_keys("pdb22") and "pdb:3DY4" in class_keys("pdb22")
    assert sorted(TABLE.loc[list(class_keys("paper22")), "stands_for"]) == sorted(structures.PAPER_ENTRIES)
    assert class_keys("noble") == ("1ZNQ", "4ZLA", "4NMN", "1PMA", "4V1W", "1RUZ", "2CG9")
    assert class_keys("guo") == ("4CR2", "4V94", "6QZP")
    assert class_keys("library") + class_keys("average") == tuple(TABLE.index)
    assert class_keys("average") == ("HSP60",)
    with pytest.raises(UserError, match="paper22, guo, extra, average, pdb22, noble, library"):
        class_keys("paper23")


PAPER_FAMILIES = dict(
    entry.split(":")
    for entry in (
        "1A1S:carbamoyltransferase 1BXR:cps 1EQR:asprs 1F1B:carbamoyltransferase 1FNT:proteasome 1GYT:pepa "
        "1KP8:groel 1LB3:ferritin 1QO1:atpsynthase 1VPX:transaldolase 1VRG:pcc 1W6T:enolase 1YG6:clpp "
        "2AWB:ribosome 2BO9:carboxypeptidase 2BYU:shsp 2GHO:rnap 2GLS:gs 2H12:citratesynthase 2IDB:ubid 2REC:reca "
        "3DY4:proteasome"
    ).split()
)
"""Family of each of the paper's own entries."""


def test_families_hold_homologues():
    assert TABLE.loc["1PMA", "family"] == TABLE.loc["3IPM", "family"] == PAPER_FAMILIES["3DY4"]
    # Where the stand-in is exact or a homologue, the paper's own entry has its family; where it is not, another one.
    stand_ins = TABLE.loc[list(class_keys("paper22"))]
    for _, row in stand_ins.iterrows():
        is_related = row["fidelity"] in ("exact", "homologue")
        assert (PAPER_FAMILIES[row["stands_for"]] == row["family"]) == is_related


def test_unknown_key_names_close_ones():
    with pytest.raises(UserError, match="1PMA") as error:
        load_complex("1pmb")
    assert "\n" not in str(error.value)


def test_registry_is_a_copy():
    table = registry()
    table.loc["1PMA", "family"] = "changed"
    assert registry().loc["1PMA", "family"] == "proteasome"


# --- the library against its source -----------------------------------------------------------------------------------


@needs_source
@pytest.mark.parametrize("key", COORDINATE_KEYS)
def test_beads_have_the_density_of_the_atoms(key):
    pytest.importorskip("gemmi")
    from cryo_fewshot.simulation.pdb import read_atoms

    row, beads = TABLE.loc[key], load_complex(key)
    positions, masses = read_atoms(SOURCE / row["source_file"], row["assembly"])
    positions = positions - np.average(positions, axis=0, weights=masses)
    assert masses.sum() == pytest.approx(row["mass_kda"], rel=1e-3)
    assert correlation(positions, masses, beads) >= 0.98


@needs_source
@pytest.mark.parametrize("key", MAP_KEYS)
def test_beads_have_the_density_of_the_map(key):
    """The map itself, not what read_map makes of it: here everything near the particle counts, whatever its density."""
    mrcfile, ndimage = pytest.importorskip("mrcfile"), pytest.importorskip("scipy.ndimage")
    with mrcfile.open(SOURCE / TABLE.loc[key, "source_file"]) as mrc:
        density, voxel_nm = mrc.data - np.median(mrc.data), float(mrc.voxel_size.x) / 10
    labels, _ = ndimage.label(density > density.max() / 10)  # one map holds two particles: the larger one, grown
    largest = ndimage.binary_dilation(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]), iterations=2)
    voxels, weights = np.argwhere(largest) * voxel_nm, density[largest]
    assert correlation(voxels - np.average(voxels, axis=0, weights=weights), weights, load_complex(key)) >= 0.98


def correlation(positions_nm, masses, beads, resolution_nm=4.0):
    """Cross-correlation of two densities on a 1 nm grid, both low-passed."""
    size = int(np.ceil(2 * np.linalg.norm(positions_nm, axis=1).max())) + 10
    a = low_pass(bin_trilinear(positions_nm, masses, size), resolution_nm)
    b = low_pass(bin_trilinear(beads.positions_nm, beads.masses_kda, size), resolution_nm)
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def bin_trilinear(positions_nm, masses, size):
    corner = np.floor(positions_nm).astype(int)
    fraction = positions_nm - corner
    density = np.zeros(size**3)
    for offset in np.ndindex(2, 2, 2):
        weights = masses * np.where(offset, fraction, 1 - fraction).prod(axis=1)
        index = np.ravel_multi_index((corner + offset + size // 2).T, (size,) * 3)
        density += np.bincount(index, weights=weights, minlength=size**3)
    return density.reshape((size,) * 3)


def low_pass(density, resolution_nm):
    """Cosine edge, centred on 1 / resolution and half as wide."""
    z = np.fft.fftfreq(len(density))
    frequency = np.sqrt(z[:, None, None] ** 2 + z[:, None] ** 2 + np.fft.rfftfreq(len(density)) ** 2)
    edge = np.clip((frequency * resolution_nm - 0.75) / 0.5, 0, 1)
    return np.fft.irfftn(np.fft.rfftn(density) * (1 + np.cos(np.pi * edge)) / 2, density.shape, axes=(0, 1, 2))


@needs_source
def test_sources_are_those_of_the_registry_and_masses_as_listed():
    with open(SOURCE / "classes.csv", newline="") as file:
        listed = {row["key"]: row for row in csv.DictReader(file)}
    assert list(listed) == list(class_keys("library"))
    for key, row in TABLE.loc[list(listed)].iterrows():
        assert hashlib.sha256((SOURCE / row["source_file"]).read_bytes()).hexdigest() == row["source_sha256"], key
        if listed[key]["mass_kda"] and key not in MASS_EXCEPTIONS:
            assert row["mass_kda"] == pytest.approx(float(listed[key]["mass_kda"]), rel=0.1), key


# --- the builder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def builder():
    pytest.importorskip("gemmi")
    spec = importlib.util.spec_from_file_location("build_structures", REPOSITORY / "scripts" / "build_structures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HEADER = "key,file,assembly,name,mass_kda,family,stands_for,fidelity,set\n"


def test_builder_gives_the_same_bytes_twice(builder, small_pdb, tmp_path):
    (tmp_path / "small.pdb").write_text(small_pdb())
    (tmp_path / "classes.csv").write_text(HEADER + "SMALL,small.pdb,as-is,small,,none,,,extra\n")
    for name in "ab":
        assert builder.main(["--source", str(tmp_path), "--output", str(tmp_path / name)]) == 0
    for name in ("beads.npz", "registry.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("X,absent.pdb,1,x,,f,,,extra", "absent.pdb: no such file"),
        ("X,small.pdb,1,x,,f,,,extra", "no biological assembly '1'"),
        ("X,empty.pdb,as-is,x,,f,,,extra", "holds no atoms"),
        ("X,small.pdb,map,x,,f,,,extra", "small.pdb: not a whole MRC file"),
        ("X,small.pdb,as-is,x,,f,,,extra\nX,small.pdb,as-is,x,,f,,,extra", "key X is given twice"),
    ],
)
def test_builder_says_what_is_wrong_in_one_line(builder, small_pdb, tmp_path, capsys, line, reason):
    (tmp_path / "small.pdb").write_text(small_pdb())
    (tmp_path / "empty.pdb").write_text("END\n")
    (tmp_path / "classes.csv").write_text(HEADER + line + "\n")
    assert builder.main(["--source", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith("build_structures: ") and reason in last_line
    assert not (tmp_path / "out").exists()


# --- entries of the PDB -----------------------------------------------------------------------------------------------


@pytest.fixture
def pdb_server(small_pdb, tmp_path, monkeypatch):
    """A folder served over HTTP in the place of the PDB, with 1LB3 in it, and an empty cache; requests are counted."""
    gemmi = pytest.importorskip("gemmi")
    pytest.importorskip("pooch")
    folder = tmp_path / "server"
    folder.mkdir()
    structure = gemmi.read_pdb_string(small_pdb())
    structure.setup_entities()
    structure.info["_struct.title"] = "Eight alanines"
    text = structure.make_mmcif_document().as_string()
    (folder / "1LB3-assembly1.cif.gz").write_bytes(gzip.compress(text.encode()))

    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CRYO_FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(structures, "BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield requests
    server.shutdown()
    server.server_close()


def go_offline(monkeypatch):
    monkeypatch.setattr(structures, "BASE_URL", "http://127.0.0.1:1")  # nothing listens there


def test_entry_is_fetched_once(pdb_server, monkeypatch):
    first = load_complex("pdb:1lb3")
    assert (first.key, first.name) == ("pdb:1LB3", "1LB3")
    assert first.mass_kda == pytest.approx(8 * 0.07108, rel=1e-3)
    n_requests = len(pdb_server)
    go_offline(monkeypatch)
    second = load_complex("pdb:1LB3")
    assert len(pdb_server) == n_requests >= 1
    np.testing.assert_array_equal(first.positions_nm, second.positions_nm)
    np.testing.assert_array_equal(first.masses_kda, second.masses_kda)


def test_a_damaged_entry_is_one_line(pdb_server, tmp_path):
    load_complex("pdb:1LB3")
    (path,) = (tmp_path / "cache").glob("1LB3*")
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    with pytest.raises(UserError, match=r"1LB3-assembly1.cif.gz: not a readable .* get it again"):
        load_complex("pdb:1LB3")


def test_offline_is_one_line_that_names_the_way_out(pdb_server, monkeypatch):
    go_offline(monkeypatch)
    with pytest.raises(UserError, match=r"1LB3.*cannot be fetched.*paper22") as error:
        load_complex("pdb:1LB3")
    assert "\n" not in str(error.value)


def test_entry_that_the_pdb_does_not_have(pdb_server):
    with pytest.raises(UserError, match=r"404.*4V4Q.*paper22"):
        load_complex("pdb:2AWB")
    with pytest.raises(UserError, match="not a PDB id"):
        load_complex("pdb:../x")
