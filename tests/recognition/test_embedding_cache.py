"""Embeddings on disk: what is computed once, and what is computed again."""

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.resampling import band_limited, wedge_rotations
from cryo_fewshot.recognition import embedding_cache
from cryo_fewshot.recognition.descriptors import relative_grey
from cryo_fewshot.recognition.embedding_cache import embed_particles, unit_embeddings
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.weights import load_encoder


def test_another_support_finds_the_embeddings(data, encoder_path, tmp_path, monkeypatch, run):
    run(tmp_path / "out", encoder_path, cache=tmp_path / "cache")
    before = len(list((tmp_path / "cache").iterdir()))
    settings = Settings(n_averaged=0, false_accept_rate=0.1)
    monkeypatch.setattr(embedding_cache, "embed", lambda *_: pytest.fail("an embedding was computed again"))
    run(tmp_path / "other", encoder_path, settings, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == before


@pytest.fixture
def particles(data):
    return open_particles(data[0] / "all" / "particles.star")


def test_chunks_hold_what_reading_and_embedding_at_once_gives(particles, encoder_path, tmp_path, monkeypatch):
    """A file that cannot be read, in the second chunk, is NaN at its own index and nowhere else."""
    monkeypatch.setattr(embedding_cache, "CHUNK", 7)
    encoder, card = load_encoder(encoder_path)
    volumes, _ = particles.read(range(len(particles)), card["box"], card["voxel_size_nm"])
    expected = unit_embeddings(encoder, band_limited(volumes))
    broken = replace(particles, source=BrokenAt(particles.source, 10))
    done = []
    embedded = embed_particles(broken, encoder, card, tmp_path, progress=done.append)
    found, rejected = embedded.all()
    assert embedded.n == len(found) == sum(done) == 40
    assert done == [7] * 5 + [5]
    assert rejected == {10: "broken on purpose"}
    assert torch.isnan(found).all(1).nonzero().ravel().tolist() == [10]
    others = np.arange(40) != 10
    np.testing.assert_allclose(found[others], expected[others], atol=1e-5)
    again = []
    embed_particles(broken, encoder, card, tmp_path, progress=again.append)
    assert again == done


@dataclass(frozen=True)
class BrokenAt:
    """A source whose particle i cannot be read."""

    source: object
    i: int

    def opened(self, voxel_size_nm=None):
        read = self.source.opened(voxel_size_nm)

        def volume_of(i):
            if i == self.i:
                raise UserError("broken on purpose")
            return read(i)

        return volume_of

    def identities(self, indices):
        return self.source.identities(indices)


def test_a_damaged_chunk_is_computed_again_and_a_missing_one_is_named(particles, encoder_path, tmp_path):
    encoder, card = load_encoder(encoder_path)
    embedded = embed_particles(particles, encoder, card, tmp_path)
    (chunk,) = embedded.folder.iterdir()
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="chunk 0 is missing or damaged; run all shards"):
        embedded.all()
    embed_particles(particles, encoder, card, tmp_path)
    assert chunk.read_bytes() == whole


def test_what_changes_an_embedding_changes_its_folder(particles, encoder_path, tmp_path):
    encoder, card = load_encoder(encoder_path)
    other, _ = load_encoder(encoder_path)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1
    changed = [
        embed_particles(particles, other, card, tmp_path),
        embed_particles(particles, encoder, card, tmp_path, rotations=2),
        embed_particles(particles, encoder, card | {"voxel_size_nm": 3.5}, tmp_path),
        embed_particles(replace(particles, mirror=True), encoder, card, tmp_path),
        embed_particles(replace(particles, dark_protein=False), encoder, card, tmp_path),
        embed_particles(particles, encoder, card, tmp_path),
    ]
    assert len({embedded.folder for embedded in changed}) == len(changed)


def test_rotations_are_averaged_and_the_mean_has_length_1(particles, encoder_path):
    encoder, card = load_encoder(encoder_path)
    volumes, _ = particles.read(range(5), card["box"], card["voxel_size_nm"])
    rotated = wedge_rotations(volumes, torch.ones(5, dtype=torch.long))
    one, other, both = (
        unit_embeddings(encoder, volumes),
        unit_embeddings(encoder, rotated),
        unit_embeddings(encoder, volumes, rotations=2),
    )
    np.testing.assert_allclose(both.norm(dim=1), 1, rtol=1e-5)
    np.testing.assert_allclose(both, torch.nn.functional.normalize(one + other, dim=1), atol=1e-5)
    with pytest.raises(UserError, match="rotations=3"):
        unit_embeddings(encoder, volumes, rotations=3)


def test_shares_samples_and_units_of_grey_values_follow_the_chunks(particles, encoder_path, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_cache, "CHUNK", 7)
    encoder, card = load_encoder(encoder_path)
    done = []
    share = embed_particles(particles, encoder, card, tmp_path, shard=(2, 4), progress=done.append)
    assert sorted(path.stem for path in share.folder.iterdir()) == ["000001", "000005"] and done == [7, 5]
    embedded = embed_particles(particles, encoder, card, tmp_path)
    whole = embedded.all()[0]
    for count in (6, 40, 99):
        chosen, columns = embedded.sample(count, seed=3)
        assert len(set(chosen.tolist())) == min(count, 40) and torch.equal(columns, whole[torch.from_numpy(chosen)])
    assert chosen.tolist() != embedded.sample(40, seed=4)[0].tolist()
    grey = embedded.with_parts("grey").all()[0]
    reference = torch.stack([torch.arange(40.0), torch.arange(40.0) + 1], dim=1)
    related = embedded.with_parts("descriptors", "grey", grey_reference=reference).all()[0]
    torch.testing.assert_close(related[:, -3:], relative_grey(grey, *reference.T))
    assert torch.equal(related[:, :-3], embedded.with_parts("descriptors").all()[0])


def test_a_file_that_was_written_again_is_embedded_again(particles, encoder_path, tmp_path):
    encoder, card = load_encoder(encoder_path)
    name = embedding_cache._digest(particles, encoder, card, 1)
    assert name == embedding_cache._digest(particles, encoder, card, 1) and len(name) == 20
    path = next(particles.source.identities([len(particles) - 1]))[1][0]
    before = os.stat(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    changed = embedding_cache._digest(particles, encoder, card, 1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed != name == embedding_cache._digest(particles, encoder, card, 1)
