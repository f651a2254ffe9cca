"""STAR files, with every value as the text it is: what is read is written back unchanged."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import write_atomically
from .mrc import reading

_NAMES_ARE_IN = "# cryo-fewshot: file names as in "
MISSING = frozenset(("nan", "NaN", "<NA>"))
_WORD = re.compile(r"""(["'])(.*?)\1(?=\s|$)|(\#.*)|(\S+)""", re.DOTALL)  # a quote ends before a blank, a # is no part
_MARK = re.compile(r"""["'#]""")
_PLAIN = re.compile(r"""(?!data_|loop_|[_"'])[^\s#]+""")


def read_star_blocks(path: Path) -> dict:
    """The blocks of a STAR file by name: a table of texts for a loop, a dictionary of texts for single values.

    Text, because a tomogram called 007 is not the number 7, and 1.50 should leave as it came.
    """
    with reading(path, "a STAR file in UTF-8", "export it again"):
        return _parsed(path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n"))


def names_are_in(path: Path) -> Path | None:
    """The folder or file whose names a STAR file that `write_star` wrote holds; None in any other."""
    with path.open("rb") as file:
        first = file.readline().decode("utf-8", "replace").rstrip("\r\n")
    return Path(first.removeprefix(_NAMES_ARE_IN)) if first.startswith(_NAMES_ARE_IN) else None


def _parsed(lines: list[str]) -> dict:
    """Blocks of lines, one row a line; ValueError for what is neither a row nor a header.

    The package starfile is not used: it takes a # within a name for a comment, a ' for a ", and a row that begins with
    data_ for a block, and fills a row that was cut short.
    """
    loops: dict[str, tuple[list, list] | None] = {}  # columns and rows of each loop, None of a block of single values
    values: dict[str, dict[str, str]] = {}
    name = None
    for number, line in enumerate(lines, 1):
        words, bare = _words(line), line.lstrip()
        loop = None if name is None else loops[name]
        if len(words) == 1 and bare.startswith("data_"):
            name = words[0][5:]
            if name in loops:
                raise ValueError(f"line {number}: a second block data_{name}")
            loops[name], values[name] = None, {}
        elif name is None or not words:
            continue
        elif len(words) == 1 and bare.startswith("loop_"):
            if loop is not None or values[name]:
                raise ValueError(f"line {number}: a loop_ after other content of data_{name}")
            loops[name] = ([], [])
        elif loop is None and bare.startswith("_"):
            if len(words) > 2:
                raise ValueError(f"line {number}: {len(words) - 1} values of {words[0]}")
            value = words[1] if len(words) == 2 else ""  # as WarpTools leaves it where there is none
            values[name][words[0][1:]] = value if isinstance(value, str) else bare.split()[1]
        elif loop is not None and not loop[1] and len(words) == 1 and bare.startswith("_"):
            if words[0][1:] in loop[0]:
                raise ValueError(f"line {number}: column {words[0][1:]} appears twice")
            loop[0].append(words[0][1:])
        elif loop is not None:
            if len(words) != len(loop[0]):
                raise ValueError(f"line {number}: {len(words)} values for {len(loop[0])} columns")
            loop[1].append(words)
        else:
            raise ValueError(f"line {number}: neither a value nor in a loop_")
    if not loops:
        raise ValueError("no line begins with data_")
    empty = next((name for name in loops if not loops[name] and not values[name]), None)
    if empty is not None:
        raise ValueError(f"nothing in block data_{empty}")
    return {
        name: values[name] if loop is None else pd.DataFrame(loop[1], columns=loop[0], dtype=object)
        for name, loop in loops.items()
    }


def _words(line: str) -> list:
    """Words of a line up to its comment, NaN for a missing value."""
    if not _MARK.search(line):
        words = line.split()
        if MISSING.isdisjoint(words):
            return words
    words = []
    for match in _WORD.finditer(line):
        quote, quoted, comment, word = match.groups()
        if comment:
            break
        words.append(quoted if quote else np.nan if word in MISSING else word)
    return words


def table_with(blocks: dict, path: Path, columns: Sequence[str], remedy: str) -> str:
    """Name of the first block with one of the columns and a row at least; a block of single values becomes a table."""
    for name, block in blocks.items():
        if any(column in block for column in columns):
            if isinstance(block, dict):
                blocks[name] = block = pd.DataFrame([block])
            if not len(block):
                raise UserError(f"{path}: lists no particles; export it again")
            return name
    raise UserError(f"{path}: no column {' or '.join(columns)} in it; {remedy}")


def texts(blocks: dict, name: str, column: str) -> list | None:
    """A column of block `name`, or of the optics table by each row's optics group; None where there is none.

    The one row of an optics table without groups is everybody's.
    """
    table, optics = blocks[name], blocks.get("optics")
    if column in table:
        return table[column].tolist()
    if optics is None or column not in optics:
        return None
    values = np.atleast_1d(np.asarray(optics[column], dtype=object))
    if "rlnOpticsGroup" not in optics or "rlnOpticsGroup" not in table:
        return [values[0]] * len(table) if len(values) == 1 else None
    of_group = dict(zip(_optics_groups(optics), values, strict=True))
    return [of_group.get(group) for group in _optics_groups(table)]


def check_optics_groups(blocks: dict, name: str, path: Path) -> None:
    """UserError where the optics table lacks a group of block `name`, or has one twice, or nothing says which is whose,
    or a column of both tables has two values for one row."""
    table, optics = blocks[name], blocks.get("optics")
    if optics is None:
        return
    if "rlnOpticsGroup" not in optics or "rlnOpticsGroup" not in table:
        if not isinstance(optics, dict) and len(optics) > 1:
            lacking = f"{len(optics)} optics groups, but nothing says which row belongs to which"
            raise UserError(f"{path}: {lacking}; give both tables the column rlnOpticsGroup")
        return
    there = _optics_groups(optics)
    twice = next((group for group in there if there.count(group) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: optics group {twice} appears twice in the table of optics; keep one row for each")
    rows = Counter(group for group in _optics_groups(table) if group not in there)
    for group, count in rows.items():
        lacking = f"optics group {group}, of {count} rows, is not in the table of optics"
        raise UserError(f"{path}: {lacking} ({', '.join(there)}); add it there, or correct rlnOpticsGroup")
    for column in set(optics) & set(table) - {"rlnOpticsGroup"}:
        own = as_numbers(table[column])
        other = as_numbers(texts({name: table.drop(columns=column), "optics": optics}, name, column))
        differing = np.flatnonzero(np.abs(own - other) > 1e-3 * np.abs(other))
        if len(differing):
            i = differing[0]
            both = f"{column} of row {i + 1} is {own[i]:g}, of its optics group {other[i]:g}"
            raise UserError(f"{path}: {both} ({len(differing)} rows); remove it from one of the tables")


def _optics_groups(table) -> list[str]:
    """rlnOpticsGroup of each row with whole numbers alike: libraries of tables write 1 as 1.0."""
    groups = np.atleast_1d(np.asarray(table["rlnOpticsGroup"], dtype=object))
    return [str(int(x)) if x == x // 1 else str(text) for x, text in zip(as_numbers(groups), groups, strict=True)]


def as_numbers(values) -> np.ndarray:
    """Texts as `(n,)` float64, NaN for what is not a number."""
    return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(float)


def numbers(blocks: dict, name: str, column: str) -> np.ndarray | None:
    """As `texts`, `(n,)` float64 with NaN for what is not a number."""
    found = texts(blocks, name, column)
    return None if found is None else as_numbers(found)


def write_star(path: str | Path, particles, columns=None, rows: Sequence[int] | None = None) -> None:
    """Write particles with new columns after all of the input's; its other blocks are kept.

    Coordinates of other programs get columns of RELION as well. A comment says where the names of its files are
    relative to, so that the file can be read from any folder.

    particles : a `base.Particles`; where its input was no STAR file, a table with rlnImageName is made, which
        holds their names, and an optics table with box and voxel size
    columns : DataFrame with a value per particle written; a column that the input has already is replaced in place.
        Numbers are written as the shortest text that reads back as the same number
    rows : indices of the particles to write, all by default

    Raises UserError where columns do not fit the rows, a value cannot be quoted, or the file cannot be written.
    """
    path = Path(path)
    rows = np.arange(len(particles.names)) if rows is None else np.asarray(rows, dtype=np.int64)
    blocks = dict(particles.blocks) or {"optics": _optics(particles), "particles": None}
    if particles.table is not None:
        table = particles.table.iloc[rows].reset_index(drop=True)
    else:
        table = pd.DataFrame({"rlnImageName": [particles.names[i] for i in rows], "rlnOpticsGroup": "1"}, dtype=str)
    places = getattr(getattr(particles, "source", None), "relion_columns", None)
    if places is not None and not {"rlnCoordinateX", "rlnMicrographPixelSize"} & set(table):
        added = places(particles.table).iloc[rows].reset_index(drop=True)
        table = table.join(added[[name for name in added if name not in table]])
    for name in () if columns is None else columns:
        if len(columns) != len(rows):
            raise UserError(f"{path}: {len(columns)} values of {name} for {len(rows)} particles; give one each")
        table[name] = [np.nan if pd.isna(value) else str(value) for value in columns[name]]
    blocks[particles.block_name] = table
    try:
        text = _names_line(particles) + "".join(_block_text(name, block) for name, block in blocks.items())
    except ValueError as error:
        raise UserError(f"{path}: {error}; rename it in the input") from error
    write_atomically(path, text.encode())


def _names_line(particles) -> str:
    """The comment that `names_are_in` reads; none for particles that no file holds."""
    source = getattr(particles, "source", None)
    places = (getattr(source, name, None) for name in ("named_in", "listed_in", "path"))
    named_in = next((place for place in places if place), None)
    return f"{_NAMES_ARE_IN}{named_in.absolute()}\n\n" if named_in else ""


def _optics(particles):
    row = {"rlnOpticsGroup": 1, "rlnOpticsGroupName": "opticsGroup1", "rlnImageDimensionality": 3}
    row |= {"rlnImageSize": particles.box, "rlnImagePixelSize": repr(round(10 * particles.voxel_size_nm, 6))}
    return pd.DataFrame([row], dtype=str)


def _block_text(name: str, block) -> str:
    """A block as starfile lays it out; blanks in the name of a column become underscores."""
    if isinstance(block, dict):
        lines = [f"_{key}\t\t\t{_quoted(str(value))}" for key, value in block.items()]
    else:
        header = [f"_{'_'.join(str(column).split())} #{i}" for i, column in enumerate(block, 1)]
        rows = ("\t".join(map(_quoted, row)) for row in block.itertuples(index=False, name=None))
        lines = ["loop_", *header, *rows]
    return "\n".join([f"data_{name}", "", *lines, "", "", ""])


def _quoted(value) -> str:
    """A value as the word that reads back as it; ValueError where there is none."""
    if not isinstance(value, str):
        return "nan"
    text = value.replace("\n", " ")
    if _PLAIN.fullmatch(text) and text not in MISSING:
        return text
    for quoted in (f'"{text}"', f"'{text}'"):
        if _words(quoted) == [text]:
            return quoted
    raise ValueError(f"{text} has both quotes before a blank, which a STAR file cannot hold")
