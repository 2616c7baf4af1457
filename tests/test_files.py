import stat

import pytest

from goctconv._files import write_atomic


def test_writes_and_replaces(tmp_path, files):
    path = tmp_path / "new" / "a.bin"
    for content in (b"one", b"two"):
        write_atomic(path, lambda stream, content=content: stream.write(content))
        assert path.read_bytes() == content
    assert files(tmp_path) == ["new/a.bin"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_old_file_alone(tmp_path, files, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(stream):
        stream.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == ["a.bin"]


def test_a_failed_rename_leaves_nothing(tmp_path, files):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OSError):  # noqa: PT011  (which one depends on the system)
        write_atomic(tmp_path / "a.bin", lambda stream: stream.write(b"x"))
    assert files(tmp_path) == []


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "a", lambda stream: stream.write(b"x"))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")}
    assert len(modes) == 1
