"""The complexes: a bundled library of bead models with its registry, and PDB entries fetched on demand.

A bead is the mass of about one cubic nanometre: enough for images at 1 nm per voxel, and small enough to ship. The
library is made by scripts/build_structures.py; the registry says where each structure comes from.
"""

import difflib
import hashlib
import io
import json
import os
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import LIBRARY, write_atomically

BASE_URL = "https://files.rcsb.org/download"
CACHE_VARIABLE = "CRYO_FEWSHOT_CACHE"
BEAD_VERSION = 1  # raise it when coordinates.to_beads changes: cached beads are then made again
# The 22 entries of Li et al. 2020, with families named as in the registry where the library holds a homologue.
PAPER_FAMILIES = {
    "1A1S": "carbamoyltransferase",
    "1BXR": "cps",
    "1EQR": "asprs",
    "1F1B": "carbamoyltransferase",
    "1FNT": "proteasome",
    "1GYT": "pepa",
    "1KP8": "groel",
    "1LB3": "ferritin",
    "1QO1": "atpsynthase",
    "1VPX": "transaldolase",
    "1VRG": "pcc",
    "1W6T": "enolase",
    "1YG6": "clpp",
    "2AWB": "ribosome",
    "2BO9": "carboxypeptidase",
    "2BYU": "shsp",
    "2GHO": "rnap",
    "2GLS": "gs",
    "2H12": "citratesynthase",
    "2IDB": "ubid",
    "2REC": "reca",
    "3DY4": "proteasome",
}
# Surrogates of the classes of Noble et al. 2018: aldolase, glutamate dehydrogenase, DnaB, T20S proteasome, apoferritin,
# haemagglutinin and insulin receptor. Three of them are among the paper's classes as well.
NOBLE_KEYS = ("1ZNQ", "4ZLA", "4NMN", "1PMA", "4V1W", "1RUZ", "2CG9")
REPLACED = {"2AWB": "4V4Q"}  # entries the PDB has merged into another


class UnknownNameError(UserError, ValueError):
    """A key or class set that does not exist; the message names those that do."""


@dataclass(frozen=True, kw_only=True)
class Complex:
    """One macromolecular complex as beads.

    Parameters
    ----------
    positions_nm : (n_beads, 3) float32 array, zyx, nm, from the centre of mass
    masses_kda : (n_beads,) float32 array, kDa
    key : str
        Name in the registry, or "pdb:" and a PDB id.
    pdb_id, name, symmetry, family, stands_for, fidelity : str
        As in the registry; "" where unknown. `stands_for` is what the complex replaces in the paper's classes and
        `fidelity` how closely (exact, homologue or substitute). Complexes of one family are homologues.
    mass_kda : float
        Mass of the whole, kDa.
    """

    key: str
    pdb_id: str
    name: str
    mass_kda: float
    symmetry: str
    family: str
    stands_for: str
    fidelity: str
    positions_nm: np.ndarray
    masses_kda: np.ndarray

    def __post_init__(self):
        shape = np.shape(self.positions_nm)
        if shape != (len(self.masses_kda), 3):
            raise ValueError(
                f"positions_nm has shape {shape}; with {len(self.masses_kda)} masses it must be (n_beads, 3)"
            )

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.masses_kda)


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

    Parameters
    ----------
    class_set : str
        "paper22" (the bundled complexes that stand for the paper's 22), "pdb22" (the paper's 22 PDB entries, fetched
        on demand), "noble" and "guo" (those that stand for the classes of Noble et al. and Guo et al. 2018), "extra"
        (further complexes), "library" (all of these that are bundled) or "average" (bundled subtomogram averages, which
        no training and no split holds).

    Raises
    ------
    UnknownNameError
        No such set (a ValueError and a UserError).
    """
    table = _read_registry()
    sets = {
        "paper22": tuple(table.index[table["set"] == "paper22"]),
        "pdb22": tuple(f"pdb:{pdb_id}" for pdb_id in PAPER_FAMILIES),
        "noble": NOBLE_KEYS,
        "guo": tuple(table.index[table["set"] == "guo"]),
        "extra": tuple(table.index[table["set"] == "extra"]),
        "library": tuple(table.index[table["set"] != "average"]),
        "average": tuple(table.index[table["set"] == "average"]),
    }
    if class_set not in sets:
        raise UnknownNameError(f"no class set {class_set!r}; there are {', '.join(sets)}")
    return sets[class_set]


def load_complex(key: str) -> Complex:
    """Load one complex from the library, or from the PDB with a key such as "pdb:1LB3".

    A PDB entry is fetched as the mmCIF file of its biological assembly 1 on first use and kept, with its beads, in the
    folder named by CRYO_FEWSHOT_CACHE (default: the user's cache folder). Hashes recorded there find damaged files.

    Raises
    ------
    UnknownNameError
        No such key in the library.
    UserError
        The entry does not exist, cannot be fetched, or is not what was fetched the first time.
    """
    if key.startswith("pdb:"):
        return _load_pdb(key.removeprefix("pdb:"))
    table = _read_registry()
    if key not in table.index:
        close = difflib.get_close_matches(key.upper(), table.index, n=3, cutoff=0.5)
        hint = f"close ones are {', '.join(close)}" if close else "class_keys('library') lists them"
        raise UnknownNameError(f"no complex {key!r} in the library; {hint}; another PDB entry is 'pdb:' and its id")
    row = table.loc[key]
    name = "averages.npz" if row["set"] == "average" else "beads.npz"
    with np.load(LIBRARY / name, allow_pickle=False) as archive:
        beads = archive[key]
    fields = ("pdb_id", "name", "symmetry", "family", "stands_for", "fidelity")
    return Complex(
        key=key,
        mass_kda=float(row["mass_kda"]),
        positions_nm=np.ascontiguousarray(beads[:, :3]),
        masses_kda=np.ascontiguousarray(beads[:, 3]),
        **{field: row[field] for field in fields},
    )


def _load_pdb(pdb_id: str) -> Complex:
    pdb_id = pdb_id.upper()
    if not re.fullmatch(r"[0-9][A-Z0-9]{3}", pdb_id):
        raise UnknownNameError(f"{pdb_id!r} is not a PDB id; give a digit and three letters or digits, as in pdb:1LB3")
    folder = _cache_folder()
    path = folder / f"{pdb_id}-assembly1.beads{BEAD_VERSION}.npz"
    if not _is_intact(path):
        _make_beads(pdb_id, path)
    with np.load(path, allow_pickle=False) as archive:
        name, beads = str(archive["name"]), archive["beads"]
    is_paper = pdb_id in PAPER_FAMILIES
    return Complex(
        key=f"pdb:{pdb_id}",
        pdb_id=pdb_id,
        name=name,
        mass_kda=float(beads[:, 3].sum(dtype=np.float64)),
        symmetry="",
        family=PAPER_FAMILIES.get(pdb_id, ""),
        stands_for=pdb_id if is_paper else "",
        fidelity="exact" if is_paper else "",
        positions_nm=np.ascontiguousarray(beads[:, :3]),
        masses_kda=np.ascontiguousarray(beads[:, 3]),
    )


def _make_beads(pdb_id: str, path: Path) -> None:
    from .pdb import read_atoms, read_title, to_beads

    source = _fetch(f"{pdb_id}-assembly1.cif.gz", path.parent, pdb_id)
    positions, masses = to_beads(*read_atoms(source, "as-is"))
    archive = io.BytesIO()
    np.savez(archive, beads=np.column_stack([positions, masses]), name=np.array(read_title(source) or pdb_id))
    write_atomically(path, archive.getvalue())
    _record_hash(path)


def _fetch(file_name: str, folder: Path, pdb_id: str) -> Path:
    """Path of a file in the cache, downloaded where it is missing or damaged."""
    path = folder / file_name
    if _is_intact(path):
        return path
    pooch = _pooch()
    url = f"{BASE_URL}/{file_name}"
    recorded = _recorded_hashes(folder).get(file_name)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, known_hash=recorded and f"sha256:{recorded}", fname=file_name, path=folder)
    except ValueError as error:  # pooch: the hash differs
        raise UserError(
            f"{url}: not the file that was fetched the first time; to accept it delete {folder / 'hashes.json'}"
        ) from error
    except OSError as error:  # requests' errors are OSErrors
        raise UserError(_why_not_fetched(error, url, pdb_id)) from error
    _record_hash(path)
    return path


def _why_not_fetched(error: OSError, url: str, pdb_id: str) -> str:
    response = getattr(error, "response", None)
    if response is not None and response.status_code == 404:
        new = REPLACED.get(pdb_id)
        hint = f"it is now part of {new}" if new else "check the id, or the entry was replaced"
        return f"{url}: the PDB has no such file ({hint}); use a complex of the bundled library instead"
    return (
        f"{url}: cannot be fetched ({type(error).__name__}); connect to the network, put the file into "
        f"{_cache_folder()}, or use the bundled class set 'paper22'"
    )


def _cache_folder() -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or _pooch().os_cache("cryo-fewshot"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); name another folder in {CACHE_VARIABLE}"
        ) from error
    return folder


def _pooch():
    try:
        import pooch
    except ImportError as error:
        raise UserError("fetching PDB entries needs pooch and gemmi: pip install 'cryo-fewshot[tool]'") from error
    return pooch


def _is_intact(path: Path) -> bool:
    """True where the file is there and is the one recorded; a file put there by hand is recorded now."""
    if not path.is_file():
        return False
    recorded = _recorded_hashes(path.parent).get(path.name)
    if recorded is None:
        _record_hash(path)
    elif recorded != _sha256(path):
        warnings.warn(f"{path}: damaged (its hash is not the recorded one); it is made again", stacklevel=2)
        return False
    return True


def _recorded_hashes(folder: Path) -> dict[str, str]:
    path = folder / "hashes.json"
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON; delete it, the files beside it are then trusted again") from error


def _record_hash(path: Path) -> None:
    hashes = _recorded_hashes(path.parent) | {path.name: _sha256(path)}
    write_atomically(path.parent / "hashes.json", json.dumps(hashes, indent=2, sort_keys=True).encode())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
