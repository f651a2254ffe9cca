"""Files of the user, made up: what several tests of this folder write and read."""

import warnings
from types import SimpleNamespace

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from cryo_fewshot.errors import UserError

BOX = 12


def noise(seed=0, box=BOX):
    return np.random.default_rng(seed).normal(size=(box,) * 3).astype(np.float32)


def bright(i, box=BOX):
    """A blob in noise, 8 standard deviations high."""
    g = np.arange(box) - box // 2
    return noise(i, box) + 8 * np.exp(-(g[:, None, None] ** 2 + g[:, None] ** 2 + g**2) / 8).astype(np.float32)


def write(path, volume=None, voxel_size_nm=1.0, seed=0, box=BOX):
    """An MRC file; noise where no volume is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = noise(seed, box) if volume is None else np.asarray(volume)
    volume = volume.astype(np.float32) if volume.dtype == np.float64 else volume
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile's statistics of NaN voxels
        mrcfile.write(path, volume, voxel_size=10 * voxel_size_nm, overwrite=True)
    return path


def table(block, columns, rows):
    """A loop of a STAR file."""
    header = "".join(f"_{name} #{i}\n" for i, name in enumerate(columns, 1))
    return f"data_{block}\n\nloop_\n{header}" + "".join(" ".join(map(str, row)) + "\n" for row in rows) + "\n\n"


def optics_table(*rows, columns=("rlnOpticsGroup", "rlnImagePixelSize", "rlnImageDimensionality")):
    return table("optics", columns, rows)


def star_of(path, columns, rows, optics="", general=""):
    path.write_text(general + optics + table("particles", columns, rows), encoding="utf-8")
    return path


def blocks_of(**columns):
    """What is read of a STAR file with one table."""
    return {"particles": pd.DataFrame({name: list(map(str, values)) for name, values in columns.items()})}


def stack(folder, images, series, *, optics=None, row=None, name="TS_1", voxel_size_nm=1.0):
    """A project of one stack of images and its tilts as RELION 5 and WarpTools write it; its STAR file.

    series : the table of the tilts by column; optics, row : further values of the optics group and of the particle
    """
    write(folder / "p.mrcs", images, voxel_size_nm)
    tilts = table(name, list(series), list(zip(*series.values(), strict=True)))
    (folder / "tomograms.star").write_text(table("global", ["rlnTomoName"], [[name]]) + tilts)
    optics = {"rlnOpticsGroup": 1, "rlnImageDimensionality": 2} | (optics or {})
    row = {"rlnTomoName": "TS_1", "rlnImageName": "p.mrcs", "rlnOpticsGroup": 1} | (row or {})
    groups = optics_table(list(optics.values()), columns=list(optics))
    return star_of(folder / "particles.star", list(row), [list(row.values())], groups)


def zarr_of(path, array, unit="angstrom", leading=0, version=3, **image):
    """An OME-Zarr image of one level, with axes of one before z; 0.5 where there are such, else 0.4."""
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = array.reshape((1,) * leading + array.shape)
    group.create_array("0", data=array, chunks=(1,) * leading + (16, 16, 16))
    axes = [{"name": n} for n in "tc"[:leading]] + [{"name": n, "type": "space", "unit": unit} for n in "zyx"]
    image = [{"axes": axes, **image}]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": image}} if leading else {"multiscales": image})
    return group


def one_line(call, *words):
    """The call ends in a UserError of one line that holds the words."""
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


SHAPE = (30, 44, 52)  # of the tomogram, zyx
CENTRES = np.array([[14, 20, 25], [12, 30, 16], [2, 20, 25]])  # zyx; the box of the last reaches out


def csv_of(path, names="x,y,z", rows=CENTRES[:, ::-1], labels="aab"):
    """A csv table of coordinates."""
    lines = [",".join(map(str, [*row, label])) for row, label in zip(rows, labels, strict=True)]
    path.write_text(f"{names},kind\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def standardised(array, centre, box=12):
    """The box of an array about a centre, with mean 0 and variance 1."""
    piece = array[tuple(slice(c - box // 2, c + box // 2) for c in centre)].astype(np.float64)
    return torch.from_numpy((piece - piece.mean()) / piece.std()).float()


def assert_cut(particles, array):
    """Boxes about CENTRES, of which the last is rejected."""
    volumes, rejected = particles.read(range(3), 12, 1.0)
    for volume, centre in zip(volumes[:2], CENTRES[:2], strict=True):
        torch.testing.assert_close(volume, standardised(array, centre), atol=1e-4, rtol=0)
    assert list(rejected) == [2] and "extends beyond the tomogram" in rejected[2] and "pad_edges" in rejected[2]


def of_names(path, names, column="rlnTomoName"):
    """A STAR file of rows at the middle of CENTRES, each of the tomogram of its name."""
    x, y, z = CENTRES[1][::-1]
    columns = [f"rlnCoordinate{c}" for c in "XYZ"]
    return star_of(path, [column, *columns], [[name, x, y, z] for name in names])


def tomograms_of(folder, *names):
    """Files of noise, each of its own, and what the box of a row is in each."""
    made = [np.random.default_rng(i + 1).normal(size=SHAPE).astype(np.float32) for i, _ in enumerate(names)]
    for name, one in zip(names, made, strict=True):
        write(folder / name, one)
    return [standardised(one, CENTRES[1]) for one in made]


def assert_boxes(particles, expected):
    volumes, rejected = particles.read(range(len(expected)), 12, 1.0)
    assert not rejected
    torch.testing.assert_close(volumes, torch.stack(expected), atol=1e-4, rtol=0)


@pytest.fixture
def files():
    """Functions that write files, and some that assert what is read from them."""
    functions = (noise, bright, write, table, optics_table, star_of, blocks_of, stack, zarr_of, csv_of)
    functions += (of_names, tomograms_of, one_line, standardised, assert_cut, assert_boxes)
    return SimpleNamespace(**{function.__name__: function for function in functions}, SHAPE=SHAPE, CENTRES=CENTRES)


@pytest.fixture
def array():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def tomogram(tmp_path, array):
    return write(tmp_path / "TS_1_10.00Apx.mrc", array)


@pytest.fixture
def project(tmp_path):
    """Six subtomograms in a project folder with a name that is not ASCII, and their STAR file."""
    root = tmp_path / "projét"
    names = [f"Extract/job001/p{i}.mrc" for i in range(6)]
    for i, name in enumerate(names):
        write(root / name, seed=i)
    rows = [(f"00{i % 2}", name, 1, f"{1 + i % 2}", "1.50", f'"a b {i}"') for i, name in enumerate(names)]
    columns = ("rlnTomoName", "rlnImageName", "rlnOpticsGroup", "rlnClassNumber", "rlnCoordinateX", "myNote")
    general = "# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   0\n\n"
    return star_of(root / "Extract" / "job001" / "particles.star", columns, rows, optics_table((1, "10.0", 3)), general)


@pytest.fixture
def classes(tmp_path):
    """A folder of two classes, of three and two files."""
    for name, count in {"b ribosome": 3, "a protéasome": 2}.items():
        for i in range(count):
            write(tmp_path / "set" / name / f"{i}.mrc", seed=i + 10 * len(name))
    return tmp_path / "set"
