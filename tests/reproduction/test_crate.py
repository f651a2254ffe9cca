"""The metadata of published results lists each file as it is."""

import hashlib
import json
import shutil

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.crate import write_crate


def test_each_published_file_is_listed_as_it_is(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "bench" / "peers").mkdir(parents=True)
    shutil.copy(REPOSITORY / "results" / "cpu" / "evaluation.parquet", tmp_path / "cpu")
    (tmp_path / "bench" / "peers" / "machine.json").write_text("{}")
    (tmp_path / "cpu" / "working.json").write_text("{}")  # of the cache: not published
    descriptor, root, *files = json.loads(write_crate(tmp_path).read_text())["@graph"]
    assert descriptor["about"] == {"@id": root["@id"]} and root["datePublished"].startswith("20")
    assert [part["@id"] for part in root["hasPart"]] == ["bench/peers/machine.json", "cpu/evaluation.parquet"]
    for part in files:
        content = (tmp_path / part["@id"]).read_bytes()
        assert part["contentSize"] == str(len(content)) and part["sha256"] == hashlib.sha256(content).hexdigest()
    assert "results of kind evaluation" in files[1]["description"] and "_dates" not in files[1]
    assert write_crate(tmp_path).read_text() == write_crate(tmp_path).read_text()
