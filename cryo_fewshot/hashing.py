"""Names made of content: digests of specs, of tensors, of plain data."""

import hashlib
import json
from dataclasses import Field, fields, is_dataclass
from typing import Any

import torch

ADDED_LATER = {"added later": True}
"""Metadata of a spec's new field, `field(default=..., metadata=ADDED_LATER)`: older results keep their names."""


def spec_dict(spec: Any) -> dict:
    """A frozen dataclass as plain JSON data: everything that a result depends on, and nothing else.

    Its type's name and fields, and those of every dataclass in it; a field left out of comparison is left out here, and
    so is one `ADDED_LATER` while it has its default. A `settings` property adds values that are no fields, a class
    attribute `version` above 1 says that the code has computed something else before.
    """
    return json.loads(json.dumps(_plain(spec)))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if not is_dataclass(value):
        return value
    content = {"type": type(value).__name__}
    content |= {part.name: _plain(getattr(value, part.name)) for part in fields(value) if _counts(part, value)}
    if settings := getattr(value, "settings", None):
        content["settings"] = settings
    if (version := getattr(value, "version", 1)) != 1:
        content["version"] = version
    return content


def _counts(part: Field, value: Any) -> bool:
    is_default = part.metadata == ADDED_LATER and getattr(value, part.name) == part.default
    return part.compare and not is_default


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
