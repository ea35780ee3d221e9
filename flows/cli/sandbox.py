"""`longhaul sandbox`: run a program in the sandbox, or serve the sandbox to others.

Imports neither the recipe nor an engine, so that the service's container needs neither: there it is started as
`python -m flows.cli.sandbox serve`.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from flows.cli.command import Group
from flows.cli.terminal import fail, printable
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Result, Sandbox

LANGUAGES = {".py": "python", ".cpp": "cpp", ".js": "javascript"}
BACKENDS = click.Choice(["auto", "bubblewrap", "crun"])


@click.group(cls=Group)
def sandbox() -> None:
    """Run untrusted programs in isolation."""


@sandbox.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback with a token."
)
@click.option("--port", default=8100, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--backend", type=BACKENDS, default="auto", show_default=True, help="What isolates the programs.")
@click.option(
    "--slots", default=0, type=click.IntRange(0, 1000), help="Programs at one time (default: one for each core)."
)
@click.option("--queue", default=64, show_default=True, type=click.IntRange(0), help="Requests that may wait.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token that clients must send (default: LONGHAUL_SANDBOX_TOKEN).",
)
def serve(host: str, port: int, backend: str, slots: int, queue: int, token_file: Path | None) -> None:
    """Serve the sandbox over HTTP.

    At a request to terminate, programs that run are finished first.
    """
    from infra.sandbox.service import ServiceConfig, check_reach
    from infra.sandbox.service import serve as serve_sandbox
    from infra.sandbox.token import read_token

    config = ServiceConfig(host=host, port=port, queue=queue)
    slots = slots or len(os.sched_getaffinity(0))

    def listening(address: str) -> None:
        click.echo(f"the sandbox listens on {address} ({slots} slots, {'with' if token else 'without'} a token)")

    token = read_token(token_file)
    check_reach(config, token)
    box = open_sandbox(SandboxConfig.model_validate({"backend": backend, "slots": slots}))
    try:
        serve_sandbox(box, slots, config, token, listening)
    except OSError as error:
        fail(f"cannot listen on {host}, port {port}: {error.strerror}")
    finally:
        box.close()


@sandbox.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--stdin",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File for its standard input; - is that of this command.",
)
@click.option("--language", help="An image in infra/sandbox/images (default: by the file's ending).")
@click.option("--wall", type=float, default=10.0, show_default=True, help="Wall seconds.")
@click.option("--memory", type=int, default=512, show_default=True, help="Memory, MiB.")
@click.option("--backend", type=BACKENDS, default="auto", show_default=True, help="What isolates the program.")
@click.option("--service", metavar="URL", help="Use a sandbox service instead; its token is in LONGHAUL_SANDBOX_TOKEN.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def run(
    file: Path,
    stdin: Path | None,
    language: str | None,
    wall: float,
    memory: int,
    backend: str,
    service: str | None,
    as_json: bool,
) -> None:
    """Run FILE in a box, and show its output.

    The last line says why it ended. Control characters in its output are replaced, for they could drive a terminal;
    --json has them as they were. The exit code is 0 where the program ended by itself with 0, and 1 otherwise.
    """
    language = language or LANGUAGES.get(file.suffix)
    if language is None:
        fail(f"{file}: no language is known for {file.suffix or 'a file without ending'}; name it with --language")
    program = _text(file)
    text = "" if stdin is None else _text(stdin)
    box: Sandbox
    try:
        # A run that waits may take long; CPU seconds are only there to end what does nothing else.
        limits = Limits(wall_seconds=wall, cpu_seconds=max(1, round(wall)), memory_mb=memory)
        if service is not None:
            from infra.sandbox.client import SandboxClient
            from infra.sandbox.token import read_token

            box = SandboxClient(service, read_token(None), patience_seconds=30.0)
        else:
            box = open_sandbox(SandboxConfig.model_validate({"backend": backend, "slots": 1}))
        try:
            result = box.run(program, text, limits, language=language)
        finally:
            box.close()
    except ValueError as error:  # what the limits or the service refuse
        fail(str(error))
    if as_json:
        click.echo(json.dumps(asdict(result)))
    else:
        _show(result.stdout, err=False)
        _show(result.stderr, err=True)
        click.echo(_summary(result), err=True)
    sys.exit(0 if result.ended == "finished" and result.exit_code == 0 else 1)


def _text(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}")


def _show(text: str, err: bool) -> None:
    if text:
        click.echo(printable(text), err=err, nl=not text.endswith("\n"))


def _summary(result: Result) -> str:
    """One line on how a run went."""
    parts = [f"{result.ended}, exit code {result.exit_code}", f"{result.wall_seconds:.3f} s"]
    if result.cpu_seconds is not None:
        parts.append(f"CPU {result.cpu_seconds:.3f} s")
    if result.peak_memory_mb is not None:
        parts.append(f"peak {result.peak_memory_mb:.1f} MiB")
    if result.not_held:
        parts.append(f"for each process only, without control groups: {', '.join(result.not_held)}")
    return f"[{'; '.join(parts)}]"


if __name__ == "__main__":
    sandbox()
