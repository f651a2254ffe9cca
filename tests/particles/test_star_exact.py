"""When the places of boxes are written beside a table."""

from types import SimpleNamespace

import pandas as pd
import pytest

from cryo_fewshot.particles.star import read_star_blocks, write_star


@pytest.mark.parametrize(
    ("column", "added"), [("myNote", True), ("rlnCoordinateX", False), ("rlnMicrographPixelSize", False)]
)
def test_places_are_written_where_the_table_says_none(column, added, tmp_path):
    table = pd.DataFrame({"rlnImageName": ["a", "b", "c"], column: ["1", "2", "3"]})
    places = pd.DataFrame({"rlnTomoName": ["t", "u", "v"], "rlnImageName": "other"})
    particles = SimpleNamespace(
        names=list("abc"),
        table=table,
        blocks={},
        block_name="particles",
        source=SimpleNamespace(relion_columns=lambda given: places if given is table else None),
        box=12,
        voxel_size_nm=1.0,
    )
    write_star(tmp_path / "a.star", particles, rows=[2, 0])
    written = read_star_blocks(tmp_path / "a.star")["particles"]
    assert written["rlnImageName"].tolist() == ["c", "a"] and written[column].tolist() == ["3", "1"]
    assert written.get("rlnTomoName", pd.Series(dtype=str)).tolist() == (["v", "t"] if added else [])
