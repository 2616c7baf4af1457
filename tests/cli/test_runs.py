"""Folders of runs: one process at a time, deleted ones, and permissions."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from goctconv._files import LOCK, FolderInUseError, FolderLock
from goctconv.cli import main
from goctconv.cli._training_folder import CSVLog
from goctconv.saliency import synthetic_images

TINY = "--model test_csnet --size 32 --batch-size 2 --workers 0 --lr 1e-3 --val 2 --weight-decay 0 --threshold none"
RUN = [*TINY.split(), "--finetune-epochs", "0"]
HOLD = """
import sys, time
from pathlib import Path
from goctconv._files import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "Shapes"
    for index, (photograph, mask) in enumerate(synthetic_images(6)):
        for part, image in (("images", photograph), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.resize((36, 32)).save(folder / part / f"{index}.png")
    return folder


@pytest.fixture
def holder():
    """Start a process that holds a folder."""
    started = []

    def hold(folder):
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_and_a_killed_one_recognised(holder, tmp_path):
    process = holder(tmp_path)
    with pytest.raises(
        FolderInUseError, match=rf"another process writes to this folder \(process {process.pid} on .*20"
    ):
        FolderLock(tmp_path)
    process.kill()
    process.wait()
    lock = FolderLock(tmp_path)
    assert f"process {process.pid} on " in lock.left_by
    with pytest.raises(FolderInUseError, match=f"process {os.getpid()} on"):
        FolderLock(tmp_path)
    lock.release()
    assert not list(tmp_path.iterdir())
    again = FolderLock(tmp_path)
    assert again.left_by is None
    again.release()


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"pid": "x"', b"\xff" * 2000])
def test_a_damaged_lock_bars_nothing(content, tmp_path):
    (tmp_path / LOCK).write_bytes(content)
    FolderLock(tmp_path).release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("pid", "is_held"), [(os.getppid(), True), (2**22 + 1, False)])
def test_without_locks_of_the_system_processes_are_looked_for(pid, is_held, tmp_path, monkeypatch):
    monkeypatch.setattr("goctconv._files._try_lock", lambda _: False)
    lock = FolderLock(tmp_path)
    holder = json.loads((tmp_path / LOCK).read_text())
    lock.release()
    (tmp_path / LOCK).write_text(json.dumps(holder | {"pid": pid}))
    if is_held:
        with pytest.raises(FolderInUseError, match=f"process {pid} on"):
            FolderLock(tmp_path)
    else:
        lock = FolderLock(tmp_path)
        assert f"process {pid}" in lock.left_by
        lock.release()


def test_a_folder_made_for_nothing_goes(tmp_path):
    FolderLock(tmp_path / "new").release()
    assert not (tmp_path / "new").exists()


def test_deleted_and_replaced_folders_are_noticed(tmp_path):
    folder = tmp_path / "run"
    lock = FolderLock(folder)
    lock.check()
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="deleted or replaced"):
        lock.check()
    other = FolderLock(folder)
    with pytest.raises(FileNotFoundError, match="deleted or replaced"):
        lock.check()
    lock.release()  # which leaves the other's alone
    other.check()
    other.release()


@pytest.mark.parametrize("more", [["--epochs", "1"], ["--resume"]])
def test_a_second_run_is_refused(more, holder, shapes, tmp_path, capsys):
    run = tmp_path / "run"
    if more == ["--resume"]:
        assert main(["learn", str(shapes), *RUN, "--epochs", "1", "--quiet", "-o", str(run)]) == 0
        assert not (run / LOCK).exists()
        assert not (run / "checkpoints" / LOCK).exists()
        data = []
    else:
        data = [str(shapes), *RUN]
    before = sorted(run.rglob("*"))
    process = holder(run)
    capsys.readouterr()
    assert main(["learn", *data, *more, "-o", str(run)]) == 2
    assert f"another process writes to this folder (process {process.pid} on" in capsys.readouterr().err
    assert sorted(path for path in run.rglob("*") if path.name != LOCK) == before
    process.kill()
    process.wait()
    assert main(["learn", *data, *more, "-o", str(run)]) == 0
    assert f"was left by process {process.pid}" in capsys.readouterr().err


def test_a_demo_is_refused_too(holder, tmp_path, capsys):
    holder(tmp_path / "demo")
    assert main(["demo", "--epochs", "1", "--images", "4", "-o", str(tmp_path / "demo")]) == 2
    assert "another process writes to this folder" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["run", "run/checkpoints"])
def test_a_folder_deleted_in_the_middle_is_an_error(part, shapes, tmp_path, capsys, monkeypatch):
    write = CSVLog.on_epoch_end

    def delete(self, run, record):
        write(self, run, record)
        if record.epoch == 2:
            shutil.rmtree(tmp_path / part)

    monkeypatch.setattr(CSVLog, "on_epoch_end", delete)
    monkeypatch.setattr("goctconv.cli._training_folder.JSONLog.on_epoch_end", lambda *_: None)
    assert main(["learn", str(shapes), *RUN, "--epochs", "4", "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "deleted or replaced while a run wrote to it: begin anew" in error
    assert "--resume" not in error
    assert not (tmp_path / part).exists()


@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of POSIX")
@pytest.mark.parametrize("umask", [0o002, 0o027])
def test_permissions_follow_umask(umask, shapes, tmp_path):
    before = os.umask(umask)
    try:
        assert main(["learn", str(shapes), *RUN, "--epochs", "1", "--quiet", "-o", str(tmp_path / "run")]) == 0
    finally:
        os.umask(before)
    for path in (tmp_path / "run").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
