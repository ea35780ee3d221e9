"""What the sandbox holds of the machine: slots with their users, control groups and launchers."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from infra.sandbox.cgroups import GroupV1, GroupV2, make_group
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Sandbox, SandboxUnavailable
from infra.sandbox.local import LocalSandbox
from infra.sandbox.slots import Slots
from tests.processes import running_below

SHORT = Limits(wall_seconds=2, cpu_seconds=1, memory_mb=256, output_bytes=10_000, processes=8, file_mb=4)


def test_a_launcher_that_is_killed_is_replaced(sandbox: Sandbox) -> None:
    assert isinstance(sandbox, LocalSandbox)
    sandbox.run_joined("pass", "pass", SHORT)
    for slot in sandbox._slots._all:
        assert slot.launcher
        slot.launcher._process.kill()
        slot.launcher._process.wait()
    assert [sandbox.run("print(1)", "", SHORT).stdout for _ in range(2)] == ["1\n", "1\n"]


def test_boxes_die_with_the_process_that_asked_for_them(sandbox: Sandbox) -> None:
    code = """
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits
sandbox = open_sandbox(SandboxConfig(backend="bubblewrap"))
print("ready", flush=True)
sandbox.run("import time; time.sleep(77)", "", Limits(wall_seconds=99))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        below = running_below(process.pid)
        own = [child for child, command in below if "/opt/python/bin/python" in " ".join(command)]
        assert len(own) >= 3  # the launcher, the init, the program
        process.kill()
    psutil.wait_procs(own, 5)
    assert not [p for p in own if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_closing_gives_back_control_groups_and_users() -> None:
    sandbox = open_sandbox(SandboxConfig(backend="bubblewrap", slots=3))
    assert isinstance(sandbox, LocalSandbox)
    groups = [slot.group for slot in sandbox._slots._all]
    folders = [entrance.parent for group in groups if group for entrance in group.entrances]
    sandbox.run("print(1)")
    assert all(folder.is_dir() for folder in folders)
    sandbox.close()
    assert not any(folder.exists() for folder in folders)


def test_two_sandboxes_of_a_machine_share_no_user() -> None:
    with closing(open_sandbox(SandboxConfig(slots=2))) as one, closing(open_sandbox(SandboxConfig(slots=2))) as other:
        assert isinstance(one, LocalSandbox) and isinstance(other, LocalSandbox)
        users = [slot.uid for sandbox in (one, other) for slot in sandbox._slots._all]
        assert len(set(users)) == (4 if os.geteuid() == 0 else 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root claims users")
def test_sandboxes_with_different_folders_for_temporary_files_share_no_user(tmp_path: Path) -> None:
    code = """
import sys
from infra.sandbox.slots import Slots
slots = Slots(3)
print(*(slot.uid for slot in slots._all), flush=True)
sys.stdin.read()
slots.close()
"""
    users: list[str] = []
    with ExitStack() as stack:
        for number in range(3):
            (folder := tmp_path / str(number)).mkdir()
            command = [sys.executable, "-c", code]
            process = subprocess.Popen(
                command,
                env={**os.environ, "TMPDIR": str(folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            assert process.stdout
            users += process.stdout.readline().split()
    assert len(users) == len(set(users)) == 9


@pytest.mark.skipif(os.geteuid() != 0, reason="only root claims users")
def test_users_are_claimed_in_the_next_place_where_the_first_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.sandbox.slots.FIRST_UID", 64_000)  # not those that other sandboxes have
    monkeypatch.setattr("infra.sandbox.slots.CLAIMS", (Path("/proc"), tmp_path))
    slots = Slots(2)
    claimed = {file.name for file in (tmp_path / "longhaul-boxes").iterdir()}
    assert {str(slot.uid) for slot in slots._all} <= claimed
    slots.close()
    monkeypatch.setattr("infra.sandbox.slots.CLAIMS", (Path("/proc"), Path("/sys")))
    with pytest.raises(SandboxUnavailable, match=r"/proc/longhaul-boxes: .*; /sys/longhaul-boxes: .*writable"):
        Slots(2)
    (other := tmp_path / "other").mkdir()
    (other / "longhaul-boxes").symlink_to("/")
    monkeypatch.setattr("infra.sandbox.slots.CLAIMS", (other,))
    with pytest.raises(SandboxUnavailable, match="is not a folder of root's: remove it"):
        Slots(2)


def test_without_control_groups_the_result_says_which_limits_do_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infra.sandbox.slots.make_group", lambda name: None)
    with closing(open_sandbox()) as sandbox:
        result = sandbox.run("print(1)", "", SHORT)
        assert (result.stdout, result.not_held) == ("1\n", ("cpu_seconds", "memory_mb"))
        assert sandbox.run("x = 'x' * 10**9", "", SHORT).ended == "memory"
        # What no limit of a process counts is denied.
        denied = sandbox.run("import os; os.memfd_create('x')", "", SHORT)
        assert "PermissionError" in denied.stderr, denied


def test_a_group_of_version_2_is_limited_and_read_by_its_files(tmp_path: Path) -> None:
    """No version 2 with these controllers is at hand everywhere: the files are plain ones here."""
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (folder / "memory.events").write_text("low 0\noom_kill 2\n")
    (folder / "pids.events").write_text("max 3\n")
    group = GroupV2(tmp_path, "box")
    (folder / "memory.peak").write_text(str(5 * 2**20))
    usage = group.usage()
    assert (usage.cpu_seconds, usage.peak_memory_mb, usage.killed_for_memory, usage.denied_processes) == (1.5, 5, 2, 3)
    group.limit(Limits(memory_mb=100, file_mb=2), 7)
    assert (folder / "memory.max").read_text() == str(150 * 2**20) and (folder / "pids.max").read_text() == "7"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")
def test_a_control_group_that_an_earlier_process_left_is_used_again() -> None:
    first = make_group(f"longhaul-test-{os.getpid()}")
    if first is None:
        pytest.skip("no control groups here")
    assert isinstance(make_group(f"longhaul-test-{os.getpid()}"), GroupV1 | GroupV2)
    first.remove()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_group_that_is_there_but_read_only_is_none() -> None:
    name = f"longhaul-test-{os.getpid()}"
    group = make_group(name)
    if group is None:
        pytest.skip("no control groups here")
    code = f"from infra.sandbox.cgroups import make_group; print(make_group({name!r}))"
    view = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    done = subprocess.run([*view, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    group.remove()
