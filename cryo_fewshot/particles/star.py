"""STAR files, with every value as the text it is: what is read is written back unchanged."""

import linecache
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import write_atomically


def read_star_blocks(path: Path) -> dict:
    """The blocks of a STAR file by name: a table of texts for a loop, a dictionary of texts for single values.

    Text, because a tomogram called 007 is not the number 7, and 1.50 should leave as it came.
    """
    import starfile

    try:
        content = path.read_bytes().decode()
        columns = set(re.findall(r"^\s*_(\S+)", content, flags=re.MULTILINE))
        linecache.checkcache(str(path))  # starfile reads through this cache, and leaves it full where it fails
        blocks = starfile.read(path, always_dict=True, parse_as_string=list(columns))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there") from error
    except Exception as error:  # starfile has no exception of its own
        raise UserError(f"{path}: not a STAR file in UTF-8; export it again") from error
    for block in blocks.values():
        if hasattr(block, "columns") and len(set(block.columns)) < len(block.columns):
            twice = next(name for name in block.columns if list(block.columns).count(name) > 1)
            raise UserError(f"{path}: column {twice} is there twice; export it again")
    return blocks


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
    """A column of block `name`, or of the optics table by each row's optics group; None where there is none."""
    table, optics = blocks[name], blocks.get("optics")
    if column in table:
        return table[column].tolist()
    if optics is None or column not in optics or "rlnOpticsGroup" not in optics:
        return None
    if "rlnOpticsGroup" not in table:
        return None
    of_group = dict(zip(_optics_groups(optics), np.atleast_1d(np.asarray(optics[column], dtype=object)), strict=True))
    return [of_group.get(group) for group in _optics_groups(table)]


def check_optics_groups(blocks: dict, name: str, path: Path) -> None:
    """UserError where the optics table lacks a group of block `name`, or has one twice."""
    optics = blocks.get("optics")
    if optics is None or "rlnOpticsGroup" not in optics or "rlnOpticsGroup" not in blocks[name]:
        return
    there = _optics_groups(optics)
    twice = next((group for group in there if there.count(group) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: optics group {twice} is there twice in the table of optics; keep one row for each")
    rows = Counter(group for group in _optics_groups(blocks[name]) if group not in there)
    for group, count in rows.items():
        lacking = f"optics group {group}, of {count} rows, is not in the table of optics"
        raise UserError(f"{path}: {lacking} ({', '.join(there)}); add it there, or correct rlnOpticsGroup")


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

    Parameters
    ----------
    particles : a `base.Particles`; where its input was no STAR file, a table with rlnImageName is made, which
        holds their names, and an optics table with box and voxel size
    columns : DataFrame with a value per particle written; a column that the input has already is replaced in place.
        Numbers are written as the shortest text that reads back as the same number
    rows : indices of the particles to write, all by default

    Raises
    ------
    UserError
        The columns do not fit the rows, or the file cannot be written.
    """
    import starfile

    path = Path(path)
    rows = np.arange(len(particles.names)) if rows is None else np.asarray(rows, dtype=np.int64)
    blocks = dict(particles.blocks) or {"optics": _optics(particles), "particles": None}
    if particles.table is not None:
        table = particles.table.iloc[rows].reset_index(drop=True)
    else:
        table = pd.DataFrame({"rlnImageName": [particles.names[i] for i in rows], "rlnOpticsGroup": "1"}, dtype=str)
    for name in () if columns is None else columns:
        if len(columns) != len(rows):
            raise UserError(f"{path}: {len(columns)} values of {name} for {len(rows)} particles; give one each")
        table[name] = [_text(value) for value in columns[name]]
    blocks[particles.block_name] = table
    blocks = {name: _quoted(block) for name, block in blocks.items()}
    # Quotes are ours, and a missing value is written as the word that reads back as one.
    text = starfile.to_string(blocks, na_rep="nan", quote_character="")
    text = text[text.index("data_") :]  # without the line that holds the time: the same particles, the same bytes
    write_atomically(path, text.encode())


def _optics(particles):
    row = {"rlnOpticsGroup": 1, "rlnOpticsGroupName": "opticsGroup1", "rlnImageDimensionality": 3}
    row |= {"rlnImageSize": particles.box, "rlnImagePixelSize": repr(round(10 * particles.voxel_size_nm, 6))}
    return pd.DataFrame([row], dtype=str)


def _text(value) -> str:
    if isinstance(value, float | np.floating):
        return "nan" if np.isnan(value) else str(value)
    return str(value)


def _quoted(block):
    if isinstance(block, dict):
        return {key: _with_quotes(value) for key, value in block.items()}
    return block.map(_with_quotes, na_action="ignore")


def _with_quotes(value):
    text = " ".join(str(value).split("\n")) if isinstance(value, str) else value
    return f'"{text}"' if isinstance(text, str) and (not text or any(c.isspace() for c in text)) else text
