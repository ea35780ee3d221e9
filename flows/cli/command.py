"""What all commands have in common: errors in one line, and groups that import a command only when it is used.

Invariant: no command answers with a traceback for what a user typed or for what lies in a folder. A LonghaulError is
printed as it is, an OSError with the file's name; whatever else is raised is a fault of the program, and its traceback
goes to a file.
"""

import errno
import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click

from flows.cli.terminal import fail
from flows.home import HOME
from infra.errors import LonghaulError

REPORT_CHARACTERS = 300
"""Of an unexpected exception's message; the file has all of it."""


class Command(click.Command):
    """A command whose errors are one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _check_text(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with errors_in_one_line():
            return super().invoke(ctx)


class Group(click.Group):
    """A group of commands whose errors are one line."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _check_text(args)
        return super().parse_args(ctx, args)


class LazyCommand(NamedTuple):
    """A command that is not imported yet."""

    where: str
    """MODULE:ATTRIBUTE."""
    help: str
    """The line in the list of commands."""


class LazyGroup(Group):
    """A group whose commands are listed by section, and imported when they are used.

    The list is made of the table alone: `longhaul --help` imports no command.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Mapping[str, LazyCommand]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections = sections
        self._lazy = {name: command for section in sections.values() for name, command in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._lazy))
        for title, commands in self.sections.items():
            with formatter.section(title):
                # One width for all sections, so that their columns line up.
                formatter.write_dl([(name.ljust(width), command.help) for name, command in commands.items()])


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End with one message, and status 1, for whatever is raised within. Click's own exceptions pass."""
    try:
        yield
    except click.exceptions.ClickException:
        raise
    except (click.exceptions.Exit, click.Abort):
        raise
    except LonghaulError as error:
        fail(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read our output has gone, which click handles
            raise
        fail(f"{error.filename}: {error.strerror}" if error.filename is not None and error.strerror else str(error))
    except Exception as error:
        fail(_unexpected(error))


def _check_text(arguments: Sequence[str]) -> None:
    """Arguments are recorded as JSON and compared with names that are: bytes that are not UTF-8 have no place there."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            raise click.UsageError(f"{argument!r} is not UTF-8 text: rename what it names")


def _unexpected(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    message = " ".join(str(error).split())[:REPORT_CHARACTERS]
    path = HOME / "errors" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{' '.join(sys.argv)}\n{text}", encoding="utf-8", errors="backslashreplace")
    except OSError as lost:
        return f"unexpected {type(error).__name__}: {message} (the traceback could not be kept: {lost})"
    return f"unexpected {type(error).__name__}: {message} (a fault of Longhaul: please report it with {path})"


def version() -> str:
    """The installed version, with the commit where this is a checkout."""
    from infra.stages.code_version import code_version

    try:
        text = importlib.metadata.version("longhaul")
    except importlib.metadata.PackageNotFoundError:
        text = "not installed"
    code = code_version()
    if code.commit is None:
        return f"longhaul {text}"
    return f"longhaul {text} (commit {code.commit[:12]}{', with uncommitted changes' if code.diff else ''})"


def print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """`--version`: say it, and end."""
    if value and not ctx.resilient_parsing:
        click.echo(version())
        ctx.exit()
