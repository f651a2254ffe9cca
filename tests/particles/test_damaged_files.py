"""Damaged MRC and STAR files, many of them: nothing but a UserError of one line or a rejection comes back."""

import tempfile
from functools import lru_cache
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles

few = settings(derandomize=True, max_examples=40, deadline=None, database=None)

STAR = b"""# version 50001

data_general

_rlnTomoSubTomosAre2DStacks 0

data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
1 10.0

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnClassNumber #3
a.mrc 1 1
b.mrc 1 2
c.mrc 1 2
"""
WORDS = [*b"data_ loop_ _ # ' @ nan -1 1e999 ; 2".split(), b'"', b"\n", b"\r", b"\x00", b"\xff"]


@lru_cache
def good_mrc() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mrc"
        mrcfile.write(path, np.random.default_rng(0).normal(size=(8,) * 3).astype(np.float32), voxel_size=10)
        return path.read_bytes()


def read_everything(path: Path) -> None:
    """Every outcome is a volume that is finite, a reason of one line, or a UserError of one line."""
    try:
        particles = open_particles(path)
        volumes, rejected = particles.read(range(len(particles)), 8, 1.0)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert volumes.isfinite().all()
    for i, volume in enumerate(volumes):
        assert volume.any() != (i in rejected)
        assert "\n" not in rejected.get(i, "")


def of_words(first: int, last: int, values, written) -> st.SearchStrategy:
    """Places of words of four bytes in a file, and what is written there."""
    return st.tuples(st.integers(first, last).map(lambda word: 4 * word), values.map(written))


CHANGES = {
    "bytes": st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=4)),
    "numbers": of_words(0, 55, st.integers(-(2**31), 2**31 - 1), lambda n: n.to_bytes(4, "little", signed=True)),
    "voxels": of_words(256, 767, st.floats(width=32), lambda x: np.float32(x).tobytes()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@few
@given(drawn=st.data(), length=st.one_of(st.none(), st.integers(0, 4000)))
def test_damaged_headers_and_voxels(change, drawn, length):
    content = bytearray(good_mrc())
    for at, new in drawn.draw(st.lists(change, min_size=1, max_size=4)):
        content[at : at + len(new)] = new
    read_beside_a_good_one(bytes(content[:length]))


@few
@given(content=st.binary(max_size=2000))
def test_any_bytes_as_mrc(content):
    read_beside_a_good_one(content)


def read_beside_a_good_one(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.mrc").write_bytes(content)
        read_everything(Path(folder))
        (Path(folder) / "b.mrc").write_bytes(good_mrc())
        read_everything(Path(folder))


words = st.one_of(st.sampled_from(WORDS), st.binary(max_size=3))


@few
@given(
    changes=st.lists(st.tuples(st.integers(0, len(STAR)), st.integers(0, 12), words), max_size=5),
    length=st.one_of(st.none(), st.integers(0, len(STAR))),
)
def test_damaged_star_files(changes, length):
    content = STAR
    for at, removed, new in changes:
        content = content[:at] + new + content[at + removed :]
    with tempfile.TemporaryDirectory() as folder:
        for name in "abc":
            (Path(folder) / f"{name}.mrc").write_bytes(good_mrc())
        (Path(folder) / "p.star").write_bytes(content[:length])
        read_everything(Path(folder) / "p.star")


@few
@given(at=st.integers(0, 9000), new=st.binary(max_size=8), length=st.one_of(st.none(), st.integers(0, 9000)))
def test_damaged_archives(at, new, length):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.npz"
        volumes = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)
        np.savez(path, volumes=volumes, voxel_size_nm=1.0, labels=np.array(list("aabb")))
        content = path.read_bytes()
        path.write_bytes((content[:at] + new + content[at + len(new) :])[:length])
        read_everything(path)
