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


def test_a_file_is_written_whole_in_folders_that_need_not_be_there_and_all_may_read_it(tmp_path):
    path = tmp_path / "a" / "b" / "result.json"
    for content in (b"first", b"second, longer"):
        write_atomically(path, content)
        assert path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o644
        assert list(path.parent.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \(.*\); choose a folder that can be written and run again"):
        write_atomically(tmp_path / "file" / "result.json", b"content")
