"""Fetching a dataset of the data portal from a server in this process."""

import functools
import http.server
import json
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles import portal as portal_module
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.portal import fetch_dataset


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


def test_picks_are_in_angstrom_of_their_own_spacing_and_of_runs_that_have_a_tomogram(tmp_path, monkeypatch):
    runs = [SimpleNamespace(name=name, dataset_id=1) for name in ("TS_1", "TS_2")]
    tomogram = SimpleNamespace(run=runs[0], voxel_spacing=13.48, https_mrc_file="t.mrc")
    picks = [
        SimpleNamespace(
            annotation_shape=SimpleNamespace(annotation=SimpleNamespace(run=run, object_name=name)),
            tomogram_voxel_spacing=SimpleNamespace(voxel_spacing=6.74),
            https_path=f"{name}.ndjson",
        )
        for run, name in ((runs[0], "80S/apo"), (runs[1], "lost"), (runs[0], "known"))
    ]
    of_all = SimpleNamespace(dataset_id=1)
    annotation = SimpleNamespace(run=of_all)
    client = SimpleNamespace(
        Client=lambda: None,
        Tomogram=SimpleNamespace(run=of_all, processing="filtered", find=lambda _, filters: [tomogram] * all(filters)),
        AnnotationFile=SimpleNamespace(
            annotation_shape=SimpleNamespace(annotation=annotation),
            format="ndjson",
            find=lambda _, filters: picks if all(filters) else [],
        ),
    )
    fetched, said = [], []

    def download(url, path):
        fetched.append((url, path.relative_to(tmp_path).as_posix()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"location": {"x": 1, "y": 2, "z": 100}}\n \n{"location": {"x": 0, "y": 0, "z": 0.5}}\n')
        return path

    monkeypatch.setitem(sys.modules, "cryoet_data_portal", client)
    monkeypatch.setattr(portal_module, "_download", download)
    folder = tmp_path / "ExperimentRuns" / "TS_1" / "Picks"
    folder.mkdir(parents=True)
    (folder / "known.json").write_text("as it was")
    assert fetch_dataset(1, tmp_path, processing="filtered", say=said.append) == tmp_path and said == ["TS_1: t.mrc"]
    assert fetched == [
        ("t.mrc", "ExperimentRuns/TS_1/VoxelSpacing13.480/filtered.mrc"),
        ("80S/apo.ndjson", "ExperimentRuns/TS_1/Picks/80S-apo.ndjson"),
    ]
    content = json.loads((folder / "80S-apo.json").read_text())
    assert [list(point["location"].values()) for point in content["points"]] == [[6.74, 13.48, 674], [0, 0, 3.37]]
    assert (content["unit"], content["pickable_object_name"]) == ("angstrom", "80S-apo")
    assert (folder / "known.json").read_text() == "as it was" and not (tmp_path / "ExperimentRuns" / "TS_2").exists()
    for dataset, processing in ((2, "filtered"), (1, "raw")):
        with pytest.raises(UserError, match=f"dataset {dataset}: has no tomogram with processing {processing}"):
            fetch_dataset(dataset, tmp_path, processing=processing)
