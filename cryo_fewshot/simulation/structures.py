"""The complexes: a bundled library of bead models with its registry, and PDB entries fetched on demand.

A bead is the mass of about one cubic nanometre: enough for images at 1 nm per voxel, and small enough to ship. The
library is made by scripts/build_structures.py; the registry says where each structure comes from.
"""

import difflib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import LIBRARY

BASE_URL = "https://files.rcsb.org/download"
CACHE_VARIABLE = "CRYO_FEWSHOT_CACHE"
PAPER_ENTRIES = (  # the 22 of Li et al. 2020
    *("1A1S", "1BXR", "1EQR", "1F1B", "1FNT", "1GYT", "1KP8", "1LB3", "1QO1", "1VPX", "1VRG"),
    *("1W6T", "1YG6", "2AWB", "2BO9", "2BYU", "2GHO", "2GLS", "2H12", "2IDB", "2REC", "3DY4"),
)
# Surrogates of the classes of Noble et al. 2018: aldolase, glutamate dehydrogenase, DnaB, T20S proteasome, apoferritin,
# haemagglutinin and insulin receptor. Three of them are among the paper's classes as well.
NOBLE_KEYS = ("1ZNQ", "4ZLA", "4NMN", "1PMA", "4V1W", "1RUZ", "2CG9")
REPLACED = {"2AWB": "4V4Q"}  # entries the PDB has merged into another


@dataclass(frozen=True, kw_only=True)
class Complex:
    """One macromolecular complex as beads; the registry says more of those in the library.

    key : name in the registry, or "pdb:" and a PDB id; mass_kda : of the whole
    positions_nm, masses_kda : `(n_beads, 3)` zyx in nm from the centre of mass, and `(n_beads,)` in kDa, float32
    """

    key: str
    name: str
    mass_kda: float
    positions_nm: np.ndarray
    masses_kda: np.ndarray


def registry() -> pd.DataFrame:
    """Table of the bundled library, one row per complex, indexed by key.

    Columns: pdb_id, name, mass_kda, max_diameter_nm, n_beads, symmetry, family, stands_for, fidelity, set, and where
    each comes from (source_file, source_sha256, assembly, map_threshold, mass_source, licence, note). What is unknown
    or does not apply is "".
    """
    return _read_registry().copy()


@lru_cache(maxsize=1)
def _read_registry() -> pd.DataFrame:
    numbers = {"mass_kda": float, "max_diameter_nm": float, "n_beads": int}
    return pd.read_csv(LIBRARY / "registry.csv", dtype=str, keep_default_na=False, index_col="key").astype(numbers)


def class_keys(class_set: str = "paper22") -> tuple[str, ...]:
    """Keys of a named set of classes, in a fixed order.

    class_set : "paper22" (the bundled complexes that stand for the paper's 22), "pdb22" (the paper's 22 PDB entries,
    fetched on demand), "noble" and "guo" (those that stand for the classes of Noble et al. and Guo et al. 2018),
    "extra" (further complexes), "library" (all of these that are bundled) or "average" (bundled subtomogram averages,
    which no training and no split holds); UserError where there is no such set
    """
    table = _read_registry()
    sets = {name: tuple(table.index[table["set"] == name]) for name in ("paper22", "guo", "extra", "average")}
    sets |= {"pdb22": tuple(f"pdb:{pdb_id}" for pdb_id in PAPER_ENTRIES), "noble": NOBLE_KEYS}
    sets["library"] = tuple(table.index[table["set"] != "average"])
    if class_set not in sets:
        raise UserError(f"no class set {class_set!r}; there are {', '.join(sets)}")
    return sets[class_set]


def load_complex(key: str) -> Complex:
    """Load one complex from the library, or from the PDB with a key such as "pdb:1LB3".

    A PDB entry is fetched as the mmCIF file of its biological assembly 1 on first use and kept in the folder named by
    CRYO_FEWSHOT_CACHE (default: the user's cache folder).

    Raises UserError for a key that is not in the library, or an entry that does not exist or cannot be fetched.
    """
    if key.startswith("pdb:"):
        return _load_pdb(key.removeprefix("pdb:"))
    table = _read_registry()
    if key not in table.index:
        close = difflib.get_close_matches(key.upper(), table.index, n=3, cutoff=0.5)
        hint = f"close ones are {', '.join(close)}" if close else "class_keys('library') lists them"
        raise UserError(f"no complex {key!r} in the library; {hint}; another PDB entry is 'pdb:' and its id")
    row = table.loc[key]
    with np.load(LIBRARY / ("averages.npz" if row["set"] == "average" else "beads.npz"), allow_pickle=False) as archive:
        beads = archive[key]
    positions, masses = (np.ascontiguousarray(part) for part in (beads[:, :3], beads[:, 3]))
    return Complex(
        key=key, name=row["name"], mass_kda=float(row["mass_kda"]), positions_nm=positions, masses_kda=masses
    )


@lru_cache(maxsize=128)
def complex_beads(key: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions `(n_beads, 3)` zyx in nm and masses `(n_beads,)` in kDa of `load_complex`; not to be changed."""
    entry = load_complex(key)
    return entry.positions_nm, entry.masses_kda


def _load_pdb(pdb_id: str) -> Complex:
    pdb_id = pdb_id.upper()
    if not re.fullmatch(r"[0-9][A-Z0-9]{3}", pdb_id):
        raise UserError(f"{pdb_id!r} is not a PDB id; give a digit and three letters or digits, as in pdb:1LB3")
    try:
        from .pdb import read_atoms, to_beads

        path = _fetched(pdb_id)
    except ImportError as error:
        raise UserError("PDB entries need pooch and gemmi: pip install 'cryo-fewshot[tool]'") from error
    positions, masses = to_beads(*read_atoms(path, "as-is"))
    mass_kda = float(masses.sum(dtype=np.float64))
    return Complex(key=f"pdb:{pdb_id}", name=pdb_id, mass_kda=mass_kda, positions_nm=positions, masses_kda=masses)


def _fetched(pdb_id: str) -> Path:
    """The file of an entry in the cache, downloaded where it is missing."""
    import pooch

    folder = Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("cryo-fewshot"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); name another in {CACHE_VARIABLE}") from error
    file_name = f"{pdb_id}-assembly1.cif.gz"
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(f"{BASE_URL}/{file_name}", known_hash=None, fname=file_name, path=folder))
    except OSError as error:  # requests' errors are OSErrors
        status = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
        replaced = f"; it is now part of {REPLACED[pdb_id]}" if pdb_id in REPLACED else ""
        remedy = f"check the id, connect to the network, put the file into {folder}, or use the class set 'paper22'"
        raise UserError(f"{BASE_URL}/{file_name}: cannot be fetched ({status}{replaced}); {remedy}") from error
