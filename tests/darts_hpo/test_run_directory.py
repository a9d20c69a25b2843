"""Run directory: ownership, atomic writes, epoch tables, configuration, provenance."""

import errno
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from darts_hpo.errors import RunDirectoryError
from darts_hpo.runs import EpochLog, EpochTable, RunDirectory, atomic_file, write_json, write_text
from darts_hpo.runs.directory import config_difference
from darts_hpo.runs.files import PARTIAL_SUFFIX
from darts_hpo.runs.provenance import provenance

HOLD_LOCK = """
import os, sys, time
from pathlib import Path
from darts_hpo.runs import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    if len(sys.argv) < 3 or os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""

DIE_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from darts_hpo.runs import atomic_file
with atomic_file(Path(sys.argv[1])) as partial:
    partial.write_text("new, but only ha")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def files(path):
    return sorted(p.name for p in path.iterdir())


@pytest.fixture
def full_disk(monkeypatch):
    def no_space(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", no_space)


# Ownership


def hold_lock(path, *arguments):
    command = [sys.executable, "-c", HOLD_LOCK, str(path), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process.stdout:
        return process, int(process.stdout.readline())


def test_a_second_process_is_refused_by_name_and_the_lock_dies_with_its_owner(tmp_path):
    run = RunDirectory(tmp_path / "run")
    other, _ = hold_lock(run.path)
    try:
        assert run.owner() == other.pid
        assert run.status() == "RUNNING"
        with pytest.raises(RunDirectoryError, match=rf"process {other.pid}\b.*run=NAME"), run.lock():
            pass
    finally:
        other.kill()
        other.wait()
    assert run.owner() is None
    with run.lock():
        assert run.owner() == os.getpid()
    assert run.owner() is None


def test_a_forked_worker_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    other, worker = hold_lock(tmp_path, "with a worker")
    try:
        assert RunDirectory(tmp_path).owner() == other.pid
        other.kill()
        other.wait()
        os.kill(worker, 0)  # alive
        with RunDirectory(tmp_path).lock():
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_the_same_process_cannot_own_a_directory_twice(tmp_path):
    run = RunDirectory(tmp_path)
    with run.lock(), pytest.raises(RunDirectoryError, match=str(os.getpid())), RunDirectory(tmp_path).lock():
        pass


def test_taking_the_lock_removes_what_a_crash_left_half_written(tmp_path):
    (tmp_path / "search").mkdir()
    left = tmp_path / "search" / f".last.ckpt.123{PARTIAL_SUFFIX}"
    left.write_bytes(b"half")
    with RunDirectory(tmp_path).lock():
        assert not left.exists()


def test_a_directory_that_cannot_be_made_is_a_readable_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="a file is where a directory should be"):
        RunDirectory(tmp_path / "file" / "run").create()
    with pytest.raises(RunDirectoryError, match="a file is where a directory should be"):
        RunDirectory(tmp_path / "file").create()


# Atomic writes


def test_a_kill_during_a_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "metrics.json"
    write_text(path, "old")
    done = subprocess.run([sys.executable, "-c", DIE_WHILE_WRITING, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(files(tmp_path)) == 2  # the partial file is still there ...
    with RunDirectory(tmp_path).lock():
        assert files(tmp_path) == [".lock", "metrics.json"]  # ... until the next run


def test_an_exception_while_writing_leaves_the_old_content_and_no_partial_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as partial:
        partial.write_text(f"new{1 // 0}")
    assert path.read_text() == "old"
    assert files(tmp_path) == ["a"]


def test_a_full_disk_is_named_with_its_remedy_and_nothing_is_half_written(tmp_path, full_disk):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(RunDirectoryError, match=rf"disk is full.*{path}.*Free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert files(tmp_path) == ["metrics.json"]


def test_a_checkpoint_on_a_full_disk_is_a_readable_error(tmp_path):
    # What torch.save raises then: the system's error is lost.
    message = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"
    with pytest.raises(RunDirectoryError, match="disk is full"), atomic_file(tmp_path / "last.ckpt"):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="ours"), atomic_file(tmp_path / "last.ckpt"):
        raise RuntimeError("ours")


def test_a_disk_that_fills_up_at_the_flush_is_noticed(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunDirectoryError, match="disk is full"):
        write_text(tmp_path / "a", "new")
    assert files(tmp_path) == []


def test_a_read_only_directory_is_a_readable_error(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunDirectoryError, match="may not be written"):
        write_text(tmp_path / "a", "new")


def test_new_files_honour_the_umask(tmp_path):
    write_text(tmp_path / "a", "x")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_number_that_is_none_is_never_written_as_one(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"val": {"map50": math.nan, "losses": [1.0, -math.inf]}, "n": np.float32(0.5), "ok": True})
    assert "NaN" not in path.read_text()
    assert json.loads(path.read_text()) == {
        "val": {"map50": None, "losses": [1.0, None]},
        "n": 0.5,
        "ok": True,
        "not_finite": {"val.map50": "nan", "val.losses.1": "-inf"},
    }


# Epoch tables


@pytest.mark.parametrize("kind", [EpochLog, EpochTable])
def test_epochs_are_appended_read_back_and_cut(tmp_path, kind):
    table = kind(tmp_path / "search" / "table")
    assert table.rows() == []
    table.truncate_from(0)
    for epoch in range(4):
        table.append({"epoch": epoch, "train/loss": 1.5 / (epoch + 1), "note": 'a, "b"\n'})
    assert [row["epoch"] for row in table.rows()] == [0, 1, 2, 3]
    assert table.rows()[1] == {"epoch": 1, "train/loss": 0.75, "note": 'a, "b"\n'}
    table.truncate_from(2)
    assert [row["epoch"] for row in table.rows()] == [0, 1]
    table.append({"epoch": 2})
    assert [row["epoch"] for row in table.rows()] == [0, 1, 2]


def test_an_interrupted_and_resumed_table_equals_an_uninterrupted_one(tmp_path):
    for kind in (EpochLog, EpochTable):
        whole, resumed = kind(tmp_path / f"{kind.__name__}.a"), kind(tmp_path / f"{kind.__name__}.b")
        rows = [{"epoch": e, "loss": 0.1 * e, **({"val/map50": 0.3} if e % 2 else {})} for e in range(6)]
        for row in rows:
            whole.append(row)
        for row in rows[:5]:
            resumed.append(row)
        resumed.truncate_from(3)
        for row in rows[3:]:
            resumed.append(row)
        assert whole.path.read_bytes() == resumed.path.read_bytes()


def test_a_table_grows_columns(tmp_path):
    table = EpochTable(tmp_path / "metrics.csv")
    table.append({"epoch": 0, "train/loss": 2.0})
    table.append({"epoch": 1, "train/loss": math.nan, "val/map50": 0.25})
    assert table.rows() == [
        {"epoch": 0, "train/loss": 2.0, "val/map50": None, "not_finite": None},
        {"epoch": 1, "train/loss": None, "val/map50": 0.25, "not_finite": "train/loss: nan"},
    ]


def test_floats_survive_a_table_exactly(tmp_path):
    table = EpochTable(tmp_path / "metrics.csv")
    values = [0.1 + 0.2, 1e-300, -1.5e17, 1 / 3]
    for epoch, value in enumerate(values):
        table.append({"epoch": epoch, "x": value})
    assert [row["x"] for row in table.rows()] == values


def test_a_torn_last_line_is_left_out_and_written_over(tmp_path):
    table = EpochLog(tmp_path / "alphas.jsonl")
    table.append({"epoch": 0, "text": "x" * 10_000})
    with table.path.open("ab") as file:
        file.write(b'{"epoch": 1, "entr')
    assert [row["epoch"] for row in table.rows()] == [0]
    table.append({"epoch": 1})
    assert [row["epoch"] for row in table.rows()] == [0, 1]
    assert table.path.read_bytes().count(b"\n") == 2


def test_a_damaged_line_is_named(tmp_path):
    table = EpochLog(tmp_path / "alphas.jsonl")
    table.path.write_text('{"epoch": 0}\nnonsense\n{"epoch": 2}\n')
    with pytest.raises(RunDirectoryError, match=r"Line 2 of .*alphas\.jsonl"):
        table.rows()


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    table = EpochLog(tmp_path / "alphas.jsonl")
    table.append({"epoch": 0})
    before = table.path.read_bytes()
    real = os.write
    calls = []

    def fills_up(descriptor, data):
        if calls:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        calls.append(1)
        return real(descriptor, bytes(data[:5]))

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(RunDirectoryError, match="disk is full"):
        table.append({"epoch": 1})
    assert table.path.read_bytes() == before


# Configuration and state


def test_the_same_configuration_continues_and_another_is_refused_with_a_diff(tmp_path):
    run = RunDirectory(tmp_path)
    config = {
        "lr": 1e-5,
        "task": {"name": "ä", "shape": (3, 32)},
        "logger": {"csv": True},
        "budget": {"epochs": 3},
    }
    may_differ = ("budget", "logger")
    run.write_config(config, may_differ)
    run.write_config(config, may_differ)
    run.write_config(config | {"budget": {"epochs": 9, "hours": 1}, "logger": None}, may_differ)
    assert run.read_config()["budget"] == {"epochs": 9, "hours": 1}
    with pytest.raises(RunDirectoryError) as error:
        run.write_config(config | {"lr": 0.1, "task": {"name": "b", "shape": [3, 32]}, "extra": [1]}, may_differ)
    assert 'lr: 1e-05 -> 0.1\n  task.name: "ä" -> "b"\n  extra: (absent) -> [1]\n' in str(error.value)
    assert run.read_config()["lr"] == 1e-5


def test_what_may_differ_is_an_argument_and_matches_whole_keys():
    old, new = {"data": {"workers": 1, "root": "a"}, "device_map": 1}, {"data": {"workers": 8, "root": "b"}}
    assert config_difference(old, new, ignore=["*.workers", "device"]) == [
        'data.root: "a" -> "b"',
        "device_map: 1 -> (absent)",
    ]
    assert config_difference(old, new, ignore=["data", "device_*"]) == []
    assert config_difference({"a": True}, {"a": 1}, ignore=[]) == ["a: true -> 1"]
    assert config_difference({"a": {}}, {"a": {}}, ignore=[]) == []


@pytest.mark.parametrize("text", ["a: [1", "- 1\n", "\x00"])
def test_a_damaged_configuration_is_a_readable_error(tmp_path, text):
    run = RunDirectory(tmp_path)
    run.config.write_text(text)
    with pytest.raises(RunDirectoryError, match=r"config\.yaml"):
        run.write_config({"a": 1}, ())


def test_status_follows_the_run(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.status() == "NEW"
    run.write_config({"a": 1}, ())
    assert run.status() == "INTERRUPTED"
    with run.lock():
        assert run.status() == "RUNNING"
        run.write_metrics({"status": "RUNNING"})
        assert run.status() == "RUNNING"
    assert run.status() == "INTERRUPTED"
    assert not run.finished()
    run.write_metrics({"status": "COMPLETED"})
    assert run.finished()
    run.metrics.write_text("[]")
    assert run.status() == "INTERRUPTED"


def test_a_file_named_stop_asks_to_stop(tmp_path):
    run = RunDirectory(tmp_path)
    assert not run.stop_requested()
    (tmp_path / "STOP").touch()
    assert run.stop_requested()
    run.clear_stop()
    assert not run.stop_requested()


def test_latest_points_at_the_newest_run(tmp_path, caplog):
    first, second = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    for run in (first, second):
        run.create()
        run.link_latest()
        assert (tmp_path / "latest").resolve() == run.path.resolve()
    assert os.readlink(tmp_path / "latest") == "b"  # relative: the folder can be moved  # noqa: PTH115
    RunDirectory(tmp_path / "latest").link_latest()
    assert (tmp_path / "latest").is_symlink()
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    first.link_latest()
    assert "was not pointed" in caplog.text
    assert files(tmp_path) == ["a", "b", "latest"]


# Provenance


def test_provenance_says_where_a_result_came_from(tmp_path):
    record = provenance(7, ["train.py", "+experiment=toy darts"])
    assert record["seed"] == 7
    assert record["command"] == "train.py '+experiment=toy darts'"
    assert record["packages"]["torch"]
    assert record["cpu"]["count"] >= 1
    assert record["torch_threads"] >= 1
    assert record["git"] is None or (len(record["git"]["sha"]) == 40 and isinstance(record["git"]["dirty"], bool))
    write_json(tmp_path / "provenance.json", record)
    assert json.loads((tmp_path / "provenance.json").read_text()) == record


def test_one_stage_of_a_shared_log_is_cut_and_the_others_are_kept(tmp_path):
    log = EpochLog(tmp_path / "progress.jsonl")
    for stage, epoch in (("search", 0), ("search", 4), ("retrain", 0), ("retrain", 1)):
        log.append({"stage": stage, "epoch": epoch})
    log.truncate_from(1, stage="retrain")
    assert [(row["stage"], row["epoch"]) for row in log.rows()] == [("search", 0), ("search", 4), ("retrain", 0)]
