"""The store of results: what was run, what came out, on which machine. Nothing is computed twice."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from ..device import machine
from ..files import LIBRARY, REPOSITORY, write_atomically
from ..hashing import canonical_json, spec_dict, spec_digest

log = logging.getLogger(__name__)
MEANING = 1
"""Raised when code changes what a spec computes: older results are then no longer found."""


def results_folder(profile: str) -> Path:
    """Folder of a profile's results: `results/<profile>` of the checkout, or of the current folder if installed.

    The environment variable CRYO_FEWSHOT_RESULTS names another parent.
    """
    parent = REPOSITORY if (REPOSITORY / "pyproject.toml").exists() else Path.cwd()
    return Path(os.environ.get("CRYO_FEWSHOT_RESULTS", parent / "results")) / profile


def spec_hash(spec: Any) -> str:
    """Sixteen hexadecimal digits that name a spec, the bead library and the meaning of the code."""
    return spec_digest({"meaning": MEANING, "library": _library(), "spec": spec_dict(spec)})


class Store:
    """A folder of results: `<root>/<kind>/<hash>.json`, with `<hash>.safetensors` beside it for weights.

    The json file is written last and holds the checksum of both, so a file that is damaged, half-written or edited is
    found on reading, logged, and computed again.
    """

    def __init__(self, root: Path):
        self.root = Path(root)

    def path(self, spec: Any, suffix: str = ".json") -> Path:
        """Where the result of a spec lies, or would lie."""
        return self.root / _kind(spec) / f"{spec_hash(spec)}{suffix}"

    def get(self, spec: Any, with_tensors: bool = False) -> dict | None:
        """The stored entry {spec, result, provenance}, with `tensors` on request; None where absent or damaged."""
        path = self.path(spec)
        try:
            entry = _verified(path)
            if with_tensors:
                content = self.path(spec, ".safetensors").read_bytes()
                if hashlib.sha256(content).hexdigest() != entry["tensors_sha256"]:
                    raise ValueError("the checksum of its weights does not match")
                entry["tensors"] = load(content)
            return entry
        except FileNotFoundError:
            return None  # never run, or its weights were not kept
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is damaged (%s); it is computed again", path, error)
            return None

    def put(self, spec: Any, result: dict, *, seconds: float, tensors: dict[str, torch.Tensor] | None = None) -> dict:
        """Store the result of a spec with provenance; weights first, then the json that vouches for them."""
        entry = {
            "spec": spec_dict(spec),
            "result": result,
            "provenance": {**machine(), "seconds": round(seconds, 1), "library": _library()},
        }
        if tensors is not None:
            content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
            write_atomically(self.path(spec, ".safetensors"), content)
            entry["tensors_sha256"] = hashlib.sha256(content).hexdigest()
        checksum = hashlib.sha256(canonical_json(entry)).hexdigest()
        text = json.dumps({**entry, "checksum": checksum}, sort_keys=True, separators=(",", ":"))
        write_atomically(self.path(spec), text.encode())
        return entry if tensors is None else {**entry, "tensors": tensors}

    def compute(self, spec: Any, function: Callable[[], tuple[dict, float, dict | None]], with_tensors=False) -> dict:
        """The stored entry, or else what `function` returns as (result, seconds, tensors), stored."""
        entry = self.get(spec, with_tensors)
        if entry is None:
            result, seconds, tensors = function()
            entry = self.put(spec, result, seconds=seconds, tensors=tensors)
        return entry

    def entries(self, kind: str) -> list[dict]:
        """All whole entries of one kind of spec, for status pages."""
        found = []
        for path in sorted((self.root / kind.lower()).glob("*.json")):
            try:
                found.append(_verified(path))
            except (OSError, ValueError, KeyError, AttributeError):
                continue
        return found


def _verified(path: Path) -> dict:
    entry = json.loads(path.read_bytes())
    checksum = entry.pop("checksum")
    if hashlib.sha256(canonical_json(entry)).hexdigest() != checksum:
        raise ValueError("its checksum does not match")
    return entry


def _kind(spec: Any) -> str:
    if not is_dataclass(spec):
        raise TypeError(f"a spec is a frozen dataclass, not {type(spec).__name__}")
    return type(spec).__name__.lower()


@cache
def _library() -> str:
    """Results name the structures they rest on."""
    return hashlib.sha256((LIBRARY / "beads.npz").read_bytes()).hexdigest()[:16]
