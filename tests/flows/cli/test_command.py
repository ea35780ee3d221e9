"""What all commands have in common: the list of commands, the version, and errors in one line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flows.cli.command import Command, Group
from flows.cli.main import SECTIONS, main
from infra.errors import LonghaulError

ROOT = Path(__file__).parents[3]
TERMINAL = 80


def groups(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The command lines of a group and of all groups below it."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    below = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [path, *(line for name, each in below if each is not None for line in groups(each, (*path, name)))]


@pytest.mark.parametrize("group", groups(main), ids=lambda group: " ".join(group) or "longhaul")
def test_each_command_has_one_whole_line_in_the_list(group: tuple[str, ...]) -> None:
    text = CliRunner().invoke(main, [*group, "--help"], env={"COLUMNS": str(TERMINAL)}).output
    command: click.Command = main
    for name in group:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name) or pytest.fail(name)
    assert isinstance(command, click.Group)
    lines = [line.strip() for line in text.splitlines()]
    for name in command.list_commands(click.Context(command)):
        (line,) = (each for each in lines if each.split(maxsplit=1)[:1] == [name])
        assert line.endswith("."), f"{' '.join(group)} {name}: {line}"


def test_every_command_answers_errors_in_one_line() -> None:
    for group in groups(main):
        command: click.Command | None = main
        for name in group:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), name)
        assert isinstance(command, Group)
        for name in command.list_commands(click.Context(command)):
            assert isinstance(command.get_command(click.Context(command), name), Command | Group), name


def test_the_list_imports_no_command() -> None:
    program = "import sys; from flows.cli.main import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(done.stdout.splitlines()[-1].split())
    modules = {command.where.partition(":")[0] for section in SECTIONS.values() for command in section.values()}
    assert not listed & (modules | {"boto3", "pydantic", "sqlalchemy", "torch", "metaflow", "yaml", "rich"})
    assert all(name in done.stdout for section in SECTIONS.values() for name in section)


def test_the_version_names_the_commit_of_a_checkout() -> None:
    said = CliRunner().invoke(main, ["--version"]).output
    assert said.startswith("longhaul ")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert f"(commit {head.stdout[:12]}" in said


def raising(error: BaseException) -> Command:
    @click.command(cls=Command)
    def command() -> None:
        raise error

    return command


def test_an_error_of_the_user_is_its_message_alone() -> None:
    result = CliRunner().invoke(raising(LonghaulError("rl.tau is \x1b[31m-1: give a number above 0")), [])
    assert (result.exit_code, result.stderr) == (1, "rl.tau is \ufffd[31m-1: give a number above 0\n")


def test_an_error_of_the_system_names_the_file() -> None:
    refused = OSError(errno.EACCES, os.strerror(errno.EACCES), "/data/train.jsonl")
    result = CliRunner().invoke(raising(refused), [])
    assert (result.exit_code, result.stderr) == (1, "/data/train.jsonl: Permission denied\n")


def test_a_fault_of_the_program_is_one_line_and_leaves_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.cli.command.HOME", tmp_path)
    result = CliRunner().invoke(raising(KeyError("tau")), [])
    assert result.exit_code == 1
    (log,) = (tmp_path / "errors").iterdir()
    (line,) = result.stderr.splitlines()
    assert line.startswith("unexpected KeyError: 'tau'") and str(log) in line
    assert "Traceback" in log.read_text() and "raise error" in log.read_text()


def test_a_fault_is_shown_also_where_its_traceback_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("flows.cli.command.HOME", tmp_path / "file")
    result = CliRunner().invoke(raising(KeyError("tau")), [])
    assert result.stderr.startswith("unexpected KeyError: 'tau' (the traceback could not be kept: ")


def test_arguments_that_are_not_text_are_refused() -> None:
    result = CliRunner().invoke(main, ["show", "\udcff"])
    assert result.exit_code == 2
    assert "is not UTF-8 text" in result.stderr
