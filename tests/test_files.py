"""Files that are either whole or absent."""

import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import write_atomically


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"No space left.*free some space") as error:
        write_atomically(tmp_path / "result.json", b"content")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
