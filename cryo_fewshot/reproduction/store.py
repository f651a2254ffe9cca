"""The store of results: what was run, what came out, on which machine. Nothing is computed twice.

Two layers: a cache of one json file per result, written as results come in and kept out of version control; and one
parquet file per kind of result, published from the cache, which any reader opens with `pandas.read_parquet`.
"""

import hashlib
import json
import logging
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from ..device import machine
from ..files import LIBRARY, REPOSITORY, write_atomically
from ..hashing import canonical_json, spec_dict, spec_digest

log = logging.getLogger(__name__)


def results_folder(profile: str) -> Path:
    """Folder of a profile's results: `results/<profile>` of the checkout, or of the current folder if installed.

    The environment variable CRYO_FEWSHOT_RESULTS names another parent.
    """
    parent = REPOSITORY if (REPOSITORY / "pyproject.toml").exists() else Path.cwd()
    return Path(os.environ.get("CRYO_FEWSHOT_RESULTS", parent / "results")) / profile


def spec_name(spec: Any) -> str:
    """Sixteen hexadecimal digits that name a spec and the bead library that it rests on."""
    return entry_name(spec_dict(spec), _library())


def entry_name(spec: dict, library: str) -> str:
    return spec_digest({"library": library, "spec": spec})


@dataclass(frozen=True)
class Trained:
    """What a spec's `run` gives where there is more than plain data to keep.

    result : plain data; tensors : weights by name, or None; seconds : spent, over all runs that it took
    """

    result: dict
    tensors: dict[str, torch.Tensor] | None
    seconds: float


class Store:
    """A folder of results: cache `<root>/<kind>/<name>.json`, weights `<name>.safetensors`, published `<kind>.parquet`.

    The json file is written last and holds the checksum of both, so a file that is damaged, half-written or edited is
    found on reading, logged, and computed again. What the cache lacks is looked for among the published results.
    """

    def __init__(self, root: Path):
        self.root = Path(root)

    def path(self, spec: Any, suffix: str = ".json") -> Path:
        """Where the result of a spec lies in the cache, or would lie."""
        return self.root / kind_of(spec) / f"{spec_name(spec)}{suffix}"

    def get(self, spec: Any, with_tensors: bool = False) -> dict | None:
        """The stored entry {spec, result, provenance}, with `tensors` on request; None where absent or damaged."""
        path = self.path(spec)
        try:
            entry = _verified(path.read_bytes()) if path.exists() else self._published(spec)
            if with_tensors:
                content = self._weights(spec)
                if hashlib.sha256(content).hexdigest() != entry["tensors_sha256"]:
                    raise ValueError("the checksum of its weights does not match")
                entry["tensors"] = load(content)
            _note(spec_name(spec), entry)
            return entry
        except FileNotFoundError:
            return None  # never run, or its weights were not kept
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is damaged (%s); it will be computed again", path, error)
            return None

    def put(self, spec: Any, found: Trained) -> dict:
        """Store the result of a spec with provenance; weights first, then the json that vouches for them."""
        provenance = {**machine(), "commit": commit(), "seconds": round(found.seconds, 1), "library": _library()}
        entry = {"spec": spec_dict(spec), "result": found.result, "provenance": provenance}
        if found.tensors is not None:
            content = save({name: value.detach().cpu().contiguous() for name, value in found.tensors.items()})
            write_atomically(self.path(spec, ".safetensors"), content)
            entry["tensors_sha256"] = hashlib.sha256(content).hexdigest()
        write_atomically(self.path(spec), _sealed(entry).encode())
        _note(spec_name(spec), entry)
        return entry if found.tensors is None else {**entry, "tensors": found.tensors}

    def named_entries(self, kind: str) -> dict[str, dict]:
        """All whole entries of one kind of spec, cached or published, by name."""
        found = {name: json.loads(text) for name, text in sorted(self._texts(kind.lower()).items())}
        for name, entry in found.items():
            _note(name, entry)
        return found

    def entries(self, kind: str) -> list[dict]:
        """The same in the order of their names."""
        return list(self.named_entries(kind).values())

    def kinds(self) -> list[str]:
        cached = {path.parent.name for path in self.root.glob("*/*.json")}
        return sorted(cached | {path.stem for path in self.root.glob("*.parquet")})

    def publish(self) -> list[Path]:
        """Write one parquet file per kind, from what is published and what the cache holds; returns those that changed.

        Columns: name; type and fields of the spec; plain numbers of the result; provenance; and `entry`, the whole as
        JSON with its checksum. Each file is replaced at once: a reader meets the old one or the new one. Where
        `publish_weights` has gathered weights of a kind, new ones are added.
        """
        changed = []
        for kind in self.kinds():
            if self._gathered(kind).exists():
                self.publish_weights(kind)
            path, texts = self.root / f"{kind}.parquet", self._texts(kind)
            if _published_texts(path) == texts:
                continue
            # Compression by pyarrow itself, which pandas asks for a file in memory.
            write_atomically(path, _table(texts).to_parquet(index=False, compression="zstd"))
            changed.append(path)
        return changed

    def _published(self, spec: Any) -> dict:
        texts = _published_texts(self.root / f"{kind_of(spec)}.parquet")
        if (name := spec_name(spec)) not in texts:
            raise FileNotFoundError(name)
        return _verified(texts[name].encode())

    def _weights(self, spec: Any) -> bytes:
        """The weights of a training as the bytes of their own file, from the cache or from what is published."""
        path, gathered = self.path(spec, ".safetensors"), self._gathered(kind_of(spec))
        if path.exists() or not gathered.exists():
            return path.read_bytes()
        name = f"{spec_name(spec)}/"
        with safe_open(gathered, framework="pt") as file:
            tensors = {key.removeprefix(name): file.get_tensor(key) for key in file.keys() if key.startswith(name)}
        if not tensors:
            raise FileNotFoundError(path)
        return save(tensors)

    def publish_weights(self, kind: str) -> Path:
        """Gather the cached weights of a kind in `<kind>.safetensors`, each tensor as `<name>/<tensor>`.

        The file is left alone where the cache adds nothing.
        """
        path, cached = self._gathered(kind), sorted((self.root / kind).glob("*.safetensors"))
        if not cached:
            return path
        before = path.read_bytes() if path.exists() else b""
        tensors = load(before) if before else {}
        for file in cached:
            tensors |= {f"{file.stem}/{name}": tensor for name, tensor in load(file.read_bytes()).items()}
        if (content := save(tensors)) != before:
            write_atomically(path, content)
        return path

    def _gathered(self, kind: str) -> Path:
        return self.root / f"{kind}.safetensors"

    def _texts(self, kind: str) -> dict[str, str]:
        """Sealed entries by name; those of the cache in the place of published ones, damaged ones left out."""
        texts = dict(_published_texts(self.root / f"{kind}.parquet"))
        for path in (self.root / kind).glob("*.json"):
            try:
                text = path.read_text()
                _verified(text.encode())
                texts[path.stem] = text
            except (OSError, ValueError, KeyError, AttributeError) as error:
                log.warning("%s is damaged (%s) and left out", path, error)
        return texts


def _note(name: str, entry: dict) -> None:
    """Add the provenance of a result to the file that CRYO_FEWSHOT_SEEN names: a page says what it rests on."""
    if path := os.environ.get("CRYO_FEWSHOT_SEEN"):
        with open(path, "a", encoding="utf-8") as file:
            print(json.dumps({"name": name, **entry["provenance"]}), file=file)


def kind_of(spec: Any) -> str:
    return type(spec).__name__.lower()


def _sealed(entry: dict) -> str:
    checksum = hashlib.sha256(canonical_json(entry)).hexdigest()
    return json.dumps({**entry, "checksum": checksum}, sort_keys=True, separators=(",", ":"))


def _verified(text: bytes) -> dict:
    entry = json.loads(text)
    checksum = entry.pop("checksum")
    if hashlib.sha256(canonical_json(entry)).hexdigest() != checksum:
        raise ValueError("its checksum does not match")
    return entry


def _table(texts: dict[str, str]) -> pd.DataFrame:
    """Sealed entries as a table, a row each, in the order of their names."""
    rows = []
    for name, text in sorted(texts.items()):
        entry = json.loads(text)
        numbers = {key: value for key, value in entry["result"].items() if isinstance(value, int | float | str)}
        rows.append({"name": name, "spec": entry["spec"], "provenance": entry["provenance"], "result": numbers})
    frame = pd.json_normalize(rows)
    frame = frame.map(lambda value: json.dumps(value) if isinstance(value, list) else value)
    return frame.assign(entry=[texts[name] for name in frame["name"]])


def _published_texts(path: Path) -> dict[str, str]:
    return _read_published(path, path.stat().st_mtime_ns) if path.exists() else {}


@cache
def _read_published(path: Path, _mtime: int) -> dict[str, str]:
    table = pd.read_parquet(path, columns=["name", "entry"])
    return dict(zip(table["name"], table["entry"], strict=True))


@cache
def commit() -> str:
    """The commit of the code that computes, with a plus sign where files differ from it; empty outside a checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if (REPOSITORY / ".git").exists() else ""


@cache
def _library() -> str:
    """Results name the structures they rest on."""
    return hashlib.sha256((LIBRARY / "beads.npz").read_bytes()).hexdigest()[:16]
