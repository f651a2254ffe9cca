"""Every field of an MRC header: used, said or refused by name, or of no meaning."""

import mrcfile
import numpy as np
import pytest

from cryo_fewshot.particles import headers
from cryo_fewshot.particles.mrc import checked_volume, open_mrc
from cryo_fewshot.particles.mrc_particles import ParticleFiles
from cryo_fewshot.particles.opening import open_particles

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


# Fields that belong to one of these.
TOGETHER = {
    "dmin": ("dmax", "dmean", "extra2"),
    "nx": ("ny",),
    "mx": ("my", "mz", "cella"),
    "mapc": ("mapr", "maps"),
    "nxstart": ("nystart", "nzstart"),
    "exttyp": ("nversion", "extra1", "rms", "nlabl", "label"),
}


def test_every_field_is_tried():
    names = [*REFUSED, *REMARKED, *PLACED, *NOTHING, *(name for names in TOGETHER.values() for name in names)]
    assert sorted(names) == sorted(mrcfile.dtypes.HEADER_DTYPE.names)


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


@pytest.mark.parametrize(
    ("order", "turned", "along"),
    [
        ((1, 2, 3), (0, 1, 2), 2),
        ((0, 0, 0), (0, 1, 2), 2),
        ((3, 2, 1), (2, 1, 0), 0),
        ((1, 3, 2), (1, 0, 2), 1),
        ((2, 3, 1), (1, 2, 0), 0),
        ((2, 1, 3), (0, 2, 1), 2),
        ((3, 1, 2), (2, 0, 1), 1),
    ],
)
def test_axes_are_turned_to_zyx(order, turned, along):
    """`turned`: which axis of the file, sections, rows, columns, is z, y and x; `along`: what sections follow."""
    volume = np.arange(24).reshape(2, 3, 4)
    data, axis, said = headers.as_zyx(volume, dict(zip(("mapc", "mapr", "maps"), order, strict=True)))
    np.testing.assert_array_equal(data, volume.transpose(turned))
    assert axis == along and bool(said) == (turned != (0, 1, 2))


@pytest.mark.parametrize("dims", [2, 4])
def test_axes_of_a_section_and_of_a_stack(dims):
    data = np.arange(120).reshape(2, 3, 4, 5)[(0,) * (4 - dims)]
    turned, _, said = headers.as_zyx(data, {"mapc": 3, "mapr": 2, "maps": 1})
    np.testing.assert_array_equal(turned, data if dims == 2 else data.transpose(0, 3, 2, 1))
    assert said.startswith("axes turned to the order x, y, z from z, y, x")


def header_of(stamp=0, flags=0, **fields):
    header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE).view(np.recarray)
    given = {"map": b"MAP ", "machst": 0x44, "mode": 2, "nx": 2, "ny": 3, "nz": 36, "mz": 36, "ispg": 1} | fields
    for name, value in given.items():
        header[name] = value
    header["extra2"] = bytes(40) + np.array([stamp, flags], np.int32).tobytes() + bytes(36)
    return header


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mode": 4}, "complex numbers (mode 4)"),
        ({"mode": 0, "flags": 16}, ""),
        ({"mode": 0, "flags": 1, "stamp": headers.IMOD_STAMP}, ""),
        ({"mode": 0, "flags": 17, "stamp": headers.IMOD_STAMP}, "two values of four bits"),
        ({"mode": 2, "flags": 17, "stamp": headers.IMOD_STAMP}, ""),
        ({"cellb": (0, 90.05, 89.95)}, ""),
        ({"cellb": (90, 90, 90.11)}, "axes at 90, 90, 90.11 degrees"),
        ({"cellb": (180, 90, 90)}, "axes at 180"),
        ({"ispg": 401, "mz": 12}, ""),
        ({"ispg": 401, "mz": 0}, "of 0 sections (mz)"),
        ({"ispg": 630, "mz": 17}, "of 17 sections (mz), but 36 sections in all (nz)"),
        ({"ispg": 400, "mz": 17}, ""),
        ({"ispg": 631, "mz": 17}, ""),
        ({"mapc": 1, "mapr": 1, "maps": 3}, "axes mapc, mapr, maps 1, 1, 3"),
        ({"mapc": 2, "mapr": 3, "maps": 1}, ""),
    ],
)
def test_headers_that_refuse_their_file(fields, said):
    found = headers.refusal(header_of(**fields))
    assert said in found and bool(found) == bool(said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ()),
        ({"ispg": 0}, ()),
        ({"ispg": 401}, ()),
        ({"ispg": 2}, ("space group 2",)),
        ({"ispg": 402}, ("space group 2",)),
        ({"nxstart": 1, "origin": (np.nan, 5, 5)}, ("first voxel at 1, 0, 0",)),
        ({"nzstart": -1, "origin": (-2, 0, 0)}, ("first voxel at 0, 0, -1", "origin -2, 0, 0 A")),
        ({"map": b"MAX "}, ("no map ID",)),
        ({"machst": 0}, ("no map ID",)),
    ],
)
def test_headers_of_which_something_is_said(fields, said):
    header = header_of(**fields)
    found = headers.remarks(header) + headers.places(header)
    assert len(found) == len(said) and all(part in text for part, text in zip(said, found, strict=True))
    assert headers.is_old(header) == ("no map ID" in said)


@pytest.mark.parametrize(("mode", "size"), [(0, 1), (1, 2), (2, 4), (6, 2), (12, 2), (101, 0)])
def test_voxels_take_so_many_bytes(mode, size):
    assert headers.n_bytes(header_of(mode=mode)) == size * 2 * 3 * 36


@pytest.mark.parametrize(
    ("fields", "images"),
    [({"ispg": 0, "mz": 1}, True), ({"ispg": 0, "mz": 1, "nz": 1}, False), ({"mz": 1}, False), ({"ispg": 0}, False)],
)
def test_sections_are_images_only_where_the_header_says_so_for_sure(fields, images):
    assert headers.is_images(header_of(**fields)) is images


@pytest.mark.parametrize(
    ("statistics", "imod", "unsigned", "said"),
    [
        ((-5, 3, 0), None, False, ""),
        ((-5, 3, 0), 0, False, ""),
        ((0, 127, 50), None, False, ""),
        ((0, 128, 50), None, True, "because of the maximum 128 and mean 50"),
        ((0, 100, 128), None, True, "mean 128"),
        ((-5, -5, 130), None, True, "mean 130"),
        ((0, -1, -2), None, False, "the header does not say"),
        ((0, 0, 0), None, False, "the header does not say"),
        ((-5, -5, 0), None, False, "the header does not say"),
        ((0, 200, 50), 1, False, ""),
        ((0, 100, 50), 0, True, "as IMOD's header says"),
    ],
)
def test_bytes_are_signed_where_the_header_means_it(statistics, imod, unsigned, said):
    fields = dict(zip(("dmin", "dmax", "dmean"), statistics, strict=True))
    header = header_of(mode=0, stamp=0 if imod is None else headers.IMOD_STAMP, flags=imod or 0, **fields)
    data, remark = headers.bytes_by_header(np.array([-1, 5], np.int8), header)
    assert data.tolist() == ([255, 5] if unsigned else [-1, 5])
    assert said in remark and bool(remark) == bool(said)
    words = np.array([-1, 5], np.int16)
    assert headers.bytes_by_header(words, header)[0] is words
