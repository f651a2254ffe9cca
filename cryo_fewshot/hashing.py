"""Names made of content: digests of tensors, of settings, of files."""

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

import torch


def spec_dict(spec: Any) -> dict:
    """A frozen spec as plain JSON data, with its type's name; fields left out of comparison are left out here."""
    return json.loads(json.dumps({"type": type(spec).__name__, **_compared(spec)}))


def _compared(spec: Any) -> dict:
    values = {part.name: getattr(spec, part.name) for part in fields(spec) if part.compare}
    return {name: _compared(value) if is_dataclass(value) else value for name, value in values.items()}


def spec_digest(content: Any) -> str:
    """Sixteen hexadecimal digits that name a spec, or other plain data."""
    plain = spec_dict(content) if is_dataclass(content) else content
    return hashlib.sha256(canonical_json(plain)).hexdigest()[:16]


def digest_of(*tensors: torch.Tensor) -> str:
    """Sixteen hexadecimal digits that name some tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def canonical_json(content: Any) -> bytes:
    """Plain data as JSON, the same bytes for equal content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
