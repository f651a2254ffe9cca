"""A folder of tomograms with copick's picks, and fetching one from a server in this process."""

import functools
import http.server
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.picks_folders import fetch_dataset, is_picks_folder

REAL_PICKS = Path(__file__).resolve().parents[3] / "shared" / "real" / "czii_picks"


def write_zarr(path, array, angstrom):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", data=array, chunks=array.shape)
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [angstrom] * 3}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]


def write_picks(path, name, centres, angstrom=10.0):
    points = [{"location": dict(zip("xyz", map(float, c[::-1] * angstrom), strict=True))} for c in centres]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pickable_object_name": name, "unit": "angstrom", "points": points}))


def test_runs_of_ome_zarr_and_picks_are_cut_where_the_picks_are(tmp_path, array, files):
    for run in ("TS_1", "TS_2"):
        write_zarr(tmp_path / "static" / "ExperimentRuns" / run / "VoxelSpacing10.000" / "denoised.zarr", array, 10.0)
        for k, name in enumerate(("ribosome", "apo-ferritin")):
            picks = tmp_path / "overlay" / "ExperimentRuns" / run / "Picks" / f"{name}.json"
            write_picks(picks, name, files.CENTRES[k : k + 1])
    assert is_picks_folder(tmp_path)
    particles = open_particles(tmp_path, tomogram="denoised@10.0", box_nm=12)
    assert sorted(particles.labels) == ["apo-ferritin"] * 2 + ["ribosome"] * 2
    first = particles.labels.index("ribosome")
    (volume,), rejected = particles.read([first], 12, 1.0)
    assert not rejected
    torch.testing.assert_close(volume, files.standardised(array, files.CENTRES[0]), atol=1e-4, rtol=0)
    files.one_line(lambda: open_particles(tmp_path, tomogram="wbp@10.0"), "TS_1: none", "as in denoised@10.0")
    other = tmp_path / "static" / "ExperimentRuns" / "TS_2" / "VoxelSpacing10.000" / "denoised.zarr"
    write_zarr(other, array, 7.84)
    said = "voxels of 0.784 nm in the file, of 1 nm by the folder's VoxelSpacing"
    files.one_line(lambda: open_particles(tmp_path), "denoised.zarr", said)
    write_zarr(other, array, 10.0)
    content = json.loads(picks.read_text())
    content["points"][0]["transformation_"] = [[1, 0, 0, 0], [0, 1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1]]
    picks.write_text(json.dumps(content))
    files.one_line(lambda: open_particles(tmp_path), "apo-ferritin.json", "transformation_ of a pick moves it")


@pytest.mark.skipif(not REAL_PICKS.is_dir(), reason="the real picks (../shared/real) are absent")
def test_real_picks_of_six_complexes_are_read(tmp_path):
    run = tmp_path / "ExperimentRuns" / "TS_5_4"
    write_mrc(run / "VoxelSpacing40.000" / "wbp.mrc", np.random.default_rng(0).normal(size=(46, 158, 158)), 4.0)
    (run / "Picks").mkdir()
    for path in REAL_PICKS.glob("*.json"):
        (run / "Picks" / path.name).write_bytes(path.read_bytes())
    particles = open_particles(tmp_path)
    counts = {name: particles.labels.count(name) for name in set(particles.labels)}
    assert counts["ribosome"] == 31 and len(counts) == 6 and len(particles) == 140
    assert (particles.source.centres >= 0).all() and (particles.source.centres < (46, 158, 158)).all()


@pytest.fixture
def portal(tmp_path, monkeypatch, array, files):
    """The portal's client, of one run whose files a server in this process has; and the server's folder."""
    served = tmp_path / "served"
    write_mrc(served / "tomogram.mrc", array, 1.0)
    places = [{"type": "point", "location": dict(zip("xyz", map(float, c[::-1]), strict=True))} for c in files.CENTRES]
    (served / "points.ndjson").write_text("\n".join(map(json.dumps, places)) + "\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at, run = f"http://127.0.0.1:{server.server_port}", SimpleNamespace(name="TS_1", dataset_id=10440)
    tomogram = SimpleNamespace(run=run, voxel_spacing=10.0, processing="raw", https_mrc_file=f"{at}/tomogram.mrc")
    file = SimpleNamespace(
        annotation_shape=SimpleNamespace(annotation=SimpleNamespace(run=run, object_name="ribosome")),
        tomogram_voxel_spacing=SimpleNamespace(voxel_spacing=10.0),
        https_path=f"{at}/points.ndjson",
        format="ndjson",
    )

    def kind(record):  # like the client: a filter compares an attribute, `find` gives those that all filters hold for
        return SimpleNamespace(**vars(record), find=lambda client, filters: [record] if all(filters) else [])

    client = SimpleNamespace(Client=lambda: None, Tomogram=kind(tomogram), AnnotationFile=kind(file))
    monkeypatch.setitem(sys.modules, "cryoet_data_portal", client)
    yield served
    server.shutdown()


def test_a_fetched_dataset_opens_and_is_not_fetched_twice(portal, tmp_path, array, files):
    folder = fetch_dataset(10440, tmp_path / "fetched")
    particles = open_particles(folder, box_nm=12)
    assert particles.labels == ["ribosome"] * len(files.CENTRES)
    (volume,), _ = particles.read([0], 12, 1.0)
    torch.testing.assert_close(volume, files.standardised(array, files.CENTRES[0]), atol=1e-4, rtol=0)
    for path in portal.iterdir():
        path.unlink()
    fetch_dataset(10440, tmp_path / "fetched")
    with pytest.raises(UserError, match="no tomogram with processing denoised"):
        fetch_dataset(10440, tmp_path / "fetched", processing="denoised")
    with pytest.raises(UserError, match="could not be fetched"):
        fetch_dataset(10440, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.mrc"))
