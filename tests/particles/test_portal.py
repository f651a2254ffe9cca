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
