"""Embeddings on disk: what is computed once, and what is computed again."""

import pytest

from cryo_fewshot.recognition import embedding_cache
from cryo_fewshot.recognition.settings import Settings


def test_another_support_finds_the_embeddings(data, encoder_path, tmp_path, monkeypatch, run):
    run(tmp_path / "out", encoder_path, cache=tmp_path / "cache")
    before = len(list((tmp_path / "cache").iterdir()))
    settings = Settings(n_averaged=0, false_accept_rate=0.1)
    monkeypatch.setattr(embedding_cache, "embed", lambda *_: pytest.fail("an embedding was computed again"))
    run(tmp_path / "other", encoder_path, settings, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == before
