"""Names made of content."""

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

from cryo_fewshot.hashing import ADDED_LATER, canonical_json, digest_of, spec_dict, spec_digest


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    shape: tuple[int, ...] = (1, 2)
    path: str = field(default="here", compare=False)


def test_a_spec_is_its_type_and_its_compared_fields():
    assert spec_dict(Outer()) == {"type": "Outer", "inner": {"type": "Inner", "size": 1}, "shape": [1, 2]}
    assert spec_digest(Outer()) == spec_digest(Outer(path="there")) == spec_digest(spec_dict(Outer()))
    assert len({spec_digest(spec) for spec in (Outer(), Outer(Inner(2)), Outer(shape=(2, 1)))}) == 3
    assert len(spec_digest(Outer())) == 16


def test_a_field_added_later_counts_where_it_is_set():
    @dataclass(frozen=True)
    class Inner:
        size: int = 1
        neighbours: int = field(default=0, metadata=ADDED_LATER)

    assert spec_digest(Outer(Inner())) == spec_digest(Outer())
    assert spec_digest(Outer(Inner(neighbours=2))) != spec_digest(Outer())


def test_settings_and_a_later_version_of_the_code_count():
    @dataclass(frozen=True)
    class Measured:
        size: int = 1
        version = 2
        settings: ClassVar = {"steps": 3}

    assert spec_dict(Measured()) == {"type": "Measured", "size": 1, "settings": {"steps": 3}, "version": 2}


def test_equal_content_is_the_same_bytes():
    assert canonical_json({"b": 1, "a": [1.5]}) == canonical_json({"a": [1.5], "b": 1}) == b'{"a":[1.5],"b":1}'


@pytest.mark.parametrize("change", [0, 1])
def test_a_digest_of_tensors_depends_on_every_number(change):
    tensors = [torch.arange(6).view(2, 3).float(), torch.zeros(2)]
    first = digest_of(*tensors)
    assert first == hashlib.sha256(b"".join(part.numpy().tobytes() for part in tensors)).hexdigest()[:16]
    assert first == digest_of(tensors[0].T.contiguous().T, tensors[1]) and len(first) == 16
    tensors[change][-1] += 1
    assert digest_of(*tensors) != first
