"""Every field of an MRC header: used, said or refused by name, or of no meaning; the table is walked."""

import numpy as np
import pytest

from cryo_fewshot.particles import headers
from cryo_fewshot.particles.mrc import checked_volume, open_mrc
from cryo_fewshot.particles.mrc_particles import ParticleFiles
from cryo_fewshot.particles.opening import open_particles

mrcfile = pytest.importorskip("mrcfile")
IMOD = np.array([headers.IMOD_STAMP, 0], np.int32).tobytes()


def changed(path, **fields):
    """Fields of the header of a file overwritten, by their names, before mrcfile looks at it."""
    content = bytearray(path.read_bytes())
    header = np.frombuffer(content[:1024], mrcfile.dtypes.HEADER_DTYPE).copy()
    for name, value in fields.items():
        header[name] = value
    content[:1024] = header.tobytes()
    path.write_bytes(content)
    return path


# By its first name: what is written into each field, and what then is refused, remarked, or otherwise read.
REFUSED = {
    "map": ({"map": b"MOO ", "nz": 11}, "Map ID"),
    "nx": ({"nx": 13}, "not a whole MRC file"),
    "mode": ({"mode": 101}, "mode '101'"),
    "nsymbt": ({"nsymbt": 10**7}, "bytes in extended header"),
    "mx": ({"mx": 24}, "0.5 x 1 x 1 nm"),
    "cellb": ({"cellb": (90, 90, 120)}, "axes at 90, 90, 120 degrees (cellb)"),
    "mapc": ({"mapc": 2}, "axes mapc, mapr, maps 2, 2, 3"),
}
REMARKED = {
    "machst": ({"map": b"", "machst": 0}, "no map ID or machine stamp"),
    "dmin": ({"dmin": 0, "dmax": 200, "dmean": 130}, "bytes read as unsigned, because of the maximum 200"),
    "ispg": ({"ispg": 19}, "space group 19 in its header (ispg)"),
    "nz": ({"nz": 6, "mz": 6, "cella": (120, 120, 60)}, "6 more sections than its header counts (nz)"),
}
PLACED = {
    "nxstart": ({"nystart": -6}, "first voxel at 0, -6, 0 (nxstart, nystart, nzstart), which is not subtracted"),
    "origin": ({"origin": (0, 0, 50)}, "origin 0, 0, 50 A, which is not subtracted"),
}
NOTHING = {"exttyp": {"exttyp": b"FEI1", "nversion": 20140, "extra1": b"x" * 8, "rms": 5, "nlabl": 1, "label": b"a"}}


def test_the_table_has_every_field_once_and_every_field_is_tried():
    names = [name for field in headers.FIELDS for name in field.names]
    assert sorted(names) == sorted(mrcfile.dtypes.HEADER_DTYPE.names)
    assert {field.names[0] for field in headers.FIELDS} == {*REFUSED, *REMARKED, *PLACED, *NOTHING} - {"nz", "machst"}
    assert all(field.use for field in headers.FIELDS if field.names[0] not in NOTHING)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_by_name(name, tmp_path, files):
    fields, said = REFUSED[name]
    files.one_line(lambda: open_mrc(changed(files.write(tmp_path / "a.mrc"), **fields)), "a.mrc", said)


@pytest.mark.parametrize("name", REMARKED)
def test_what_is_read_otherwise_is_said(name, tmp_path, files):
    fields, said = REMARKED[name]
    volume = np.arange(12**3).reshape((12,) * 3) % 250
    file = open_mrc(changed(files.write(tmp_path / "a.mrc", volume.astype(np.uint8).view(np.int8)), **fields))
    assert any(said in remark for remark in file.remarks)


@pytest.mark.parametrize("name", PLACED)
def test_places_are_said_of_tomograms_alone(name, tmp_path, tomogram, files):
    fields, said = PLACED[name]
    changed(tomogram, **fields)
    notes = open_particles(tomogram, coordinates=files.csv_of(tmp_path / "c.csv"), box_nm=12).notes
    assert sum(said in note for note in notes) == 1
    assert not open_mrc(changed(files.write(tmp_path / "a.mrc"), **fields)).remarks


def test_what_changes_no_voxel_changes_nothing(tmp_path, files):
    path = files.write(tmp_path / "a.mrc")
    before, after = open_mrc(path), open_mrc(changed(path, **NOTHING["exttyp"]))
    assert np.array_equal(before.data, after.data) and before[1:] == after[1:] and not after.remarks


def test_words_of_imod_are_read_in_the_byte_order_of_the_stamp(tmp_path, files):
    volume = (np.arange(12**3).reshape((12,) * 3) % 120).astype(np.int8)
    path = files.write(tmp_path / "a.mrc", volume)
    file = open_mrc(changed(path, dmin=0, dmax=-1, dmean=-2, extra2=bytes(40) + IMOD + bytes(36)))
    assert file.data.dtype == np.uint8 and "IMOD" in file.remarks[0]
    four_bits = IMOD[:4] + bytes([16, 0, 0, 0])
    changed(path, extra2=bytes(40) + four_bits + bytes(36))
    files.one_line(lambda: open_mrc(path), "two values of four bits in each byte, as IMOD's header says")
    content = path.read_bytes()
    header = np.frombuffer(content[:1024], mrcfile.dtypes.HEADER_DTYPE)
    swapped = header.astype(header.dtype.newbyteorder(">"))
    swapped["machst"], swapped["extra2"] = (0x11, 0x11, 0, 0), bytes(40) + IMOD[3::-1] + bytes(40)
    path.write_bytes(swapped.tobytes() + content[1024:])
    assert open_mrc(path).data.dtype == np.uint8


def test_a_stack_is_what_its_sections_say(tmp_path, files):
    stack = np.stack([files.noise(i) for i in range(3)])
    path = files.write(tmp_path / "a.mrcs", stack)
    assert len(open_particles(path, dark_protein=True)) == 3
    cut = changed(path, mz=17, cella=(120, 120, 170))
    files.one_line(lambda: open_mrc(cut), "stack of volumes of 17 sections (mz), but 36 sections in all (nz)")
    images = changed(files.write(tmp_path / "i.mrc"), ispg=0, mz=1)
    said = "a stack of images by its header (ispg 0, mz 1)"
    files.one_line(lambda: checked_volume(open_mrc(images).data, images, open_mrc(images).is_images), said)
    one = ParticleFiles(["i.mrc"], tmp_path, np.zeros(1, int))
    files.one_line(lambda: one.opened()(0), said)
    csv = files.csv_of(tmp_path / "c.csv")
    files.one_line(lambda: open_particles(images, coordinates=csv), said, "not one tomogram")
    assert open_mrc(changed(images, mz=12)).is_images is False, "as IMOD and RELION write volumes"


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_of_old_is_read_where_its_size_fits(order, tmp_path, files):
    path = files.write(tmp_path / "a.mrc", files.noise().astype(f"{order}f4"))
    assert np.array_equal(open_mrc(changed(path, map=b"", machst=0)).data, files.noise())
    path.write_bytes(path.read_bytes() + b"x")
    files.one_line(lambda: open_mrc(path), "not a whole MRC file (Map ID")


@pytest.mark.parametrize(
    ("order", "turned", "along"),
    [
        ((1, 2, 3), (0, 1, 2), 2),
        ((0, 0, 0), (0, 1, 2), 2),
        ((3, 2, 1), (2, 1, 0), 0),
        ((1, 3, 2), (1, 0, 2), 1),
        ((2, 3, 1), (1, 2, 0), 0),
    ],
)
def test_axes_are_turned_to_zyx(order, turned, along):
    """`turned`: which axis of the file, sections, rows, columns, is z, y and x; `along`: what sections follow."""
    volume = np.arange(24).reshape(2, 3, 4)
    data, axis, said = headers.as_zyx(volume, dict(zip(("mapc", "mapr", "maps"), order, strict=True)))
    np.testing.assert_array_equal(data, volume.transpose(turned))
    assert axis == along and bool(said) == (turned != (0, 1, 2))
