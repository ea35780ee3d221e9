"""The fork server: imports what steps of a flow import, and forks for each step. Started by the flow's guard.

    python flows/fork_server/server.py PROCESS      the guard's; the socket is in LONGHAUL_FORK_SERVER_SOCKET

A step on its own imports for 13 s what it then computes with for 2: torch and transformers take 4 s, vLLM 4, Great
Expectations 3, wandb, Metaflow and the chain the rest. Here that happens once in a run, beside the first steps.

Invariants:

- A fork does what a plain process would. It has the client's arguments, environment, folder and streams, runs the
  flow's file as `__main__`, and has a guard of its own. Where that cannot be so, the server refuses, and the client
  runs a plain process: where a variable differs that may have been read at an import, and where a file of the project
  has changed since the server began, since a fork would run the code as it was before.
- The server computes nothing: no engine, no random numbers, no thread of Python's own, so that there is nothing a fork
  could inherit but modules.
- It holds nothing that could be lost. Where it ends, the steps that run are not concerned, and the next ones are plain
  processes. It ends with the flow's guard.
"""

import atexit
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import setproctitle

import infra.environment
from flows.flow_setup import enter_flow_environment
from flows.fork_server.client import ACCEPTED, LENGTH, REFUSED, SOCKET, address
from flows.fork_server.start import ENGINES
from flows.guard import PR_SET_PDEATHSIG, call_kernel, guard_fork, step_of

FLOW_MODULES = (
    "wandb.sdk.launch",  # first: it looks through all modules that are there, again and again
    "metaflow.task",
    "flows.cards",
    "flows.chain",
    "flows.cluster.decorator",
    "flows.flow_config",
    "flows.stage_step",
    "steps.gates.inputs",
    "steps.report.page",
)
"""What every step imports."""
STAGE_MODULES = (
    "infra.gates.rules",
    "torch",
    "transformers",
    "deepspeed",
    "deepspeed.module_inject",
    "steps.workbench",
    "vllm.v1.engine.llm_engine",
    "vllm.entrypoints.llm",
    "vllm.v1.worker.cpu_worker",
)
"""What steps import that check data, generate or train."""

PER_STEP = frozenset({"METAFLOW_RUN_ID", "METAFLOW_RUN_MAX_WORKERS", "LONGHAUL_GUARDED_PROCESS"})
"""Variables that differ for a step, and which nothing reads at an import."""
REQUEST_S = 10.0
"""Seconds for a client to send its request."""
_ROOT = Path(__file__).resolve().parents[2]


def import_for_stages() -> None:
    """Import what stages import, and let vLLM prepare what it would in each."""
    for module in STAGE_MODULES:
        importlib.import_module(module)
    from infra.inference.engine_overhead import register_kernels

    register_kernels()


@dataclass(frozen=True)
class Request:
    """What a client asks to be run, and with what."""

    arguments: list[str]
    """A Python file and its arguments."""
    folder: str
    environment: dict[str, str]
    streams: tuple[int, ...]
    """Descriptors of its standard streams."""


class RequestRefused(Exception):
    """A fork would not do what a plain process does; the message says why."""


class ForkServer:
    """Listens at a socket. One thread does everything."""

    def __init__(self, path: str) -> None:
        self._began_with = dict(os.environ)
        self._folder = os.getcwd()
        self._sources = _project_files()
        self._forks: set[int] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        with address(path) as name:
            self._listener.bind(name)
        self._listener.listen()

    def run(self, engines: bool) -> Callable[[], NoReturn]:
        """Import modules, and fork for whoever asks. Returns in forks: what each is to do."""
        gc.disable()  # looking through all that is imported takes a fifth of the time
        for module in FLOW_MODULES:
            importlib.import_module(module)
        if engines:
            # The first step makes data: it does not have to wait for engines.
            helper = os.fork()
            if helper == 0:
                call_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
                return self._serve() or os._exit(0)
            self._forks.add(helper)
            import_for_stages()
        while True:
            if task := self._serve():
                return task

    def _serve(self) -> Callable[[], NoReturn] | None:
        """Fork for the next who asks."""
        while not select.select([self._listener], [], [], 1)[0]:
            self._forks -= {fork for fork in self._forks if os.waitpid(fork, os.WNOHANG)[0]}
        connection, _ = self._listener.accept()
        with connection:
            return self._answer(connection)

    def _answer(self, connection: socket.socket) -> Callable[[], NoReturn] | None:
        connection.settimeout(REQUEST_S)
        streams: list[int] = []
        try:
            request = _receive(connection, streams)
            self._check(request)
        except RequestRefused as refused:
            with suppress(OSError):
                connection.sendall(REFUSED + str(refused).encode())
        except (OSError, ValueError, KeyError):
            pass  # the client has gone, or is a stranger
        else:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            gc.freeze()
            fork = os.fork()
            if fork == 0:
                return self._enter_fork(connection, request)
            self._forks.add(fork)
        finally:
            for descriptor in streams:
                os.close(descriptor)
        return None

    def _check(self, request: Request) -> None:
        """Raises RequestRefused."""
        before, after = self._began_with, request.environment
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if others := [name for name in names if name not in PER_STEP]:
            raise RequestRefused(f"the environment differs in {', '.join(others)}")
        if request.folder != self._folder:
            raise RequestRefused(f"the folder is {request.folder}, and was {self._folder}")
        if _project_files() != self._sources:
            raise RequestRefused("code has changed since the run began")

    def _enter_fork(self, connection: socket.socket, request: Request) -> Callable[[], NoReturn]:
        """Make this fork the guard, and its child what was asked for. Returns in the child."""
        self._listener.close()
        call_kernel(PR_SET_PDEATHSIG, 0)
        connection.settimeout(None)
        for target, descriptor in enumerate(request.streams):
            os.dup2(descriptor, target)
        try:
            connection.sendall(ACCEPTED)
        except OSError:
            os._exit(0)  # the client has given up: it runs a plain process, or was killed
        setproctitle(" ".join([sys.executable, *request.arguments]))  # what a plain process is called
        guard_fork(connection, step_of(request.arguments))
        guarded = {name: os.environ[name] for name in os.environ if name == "LONGHAUL_GUARDED_PROCESS"}
        by_imports = {name: value for name, value in os.environ.items() if self._began_with.get(name) != value}
        os.environ.clear()
        os.environ.update(by_imports | request.environment | guarded)
        infra.environment.PROCESS_ENVIRONMENT.clear()
        infra.environment.PROCESS_ENVIRONMENT.update(request.environment | guarded)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.enable()
        _reseed()
        return lambda: _run_file(request.arguments)


def _receive(connection: socket.socket, streams: list[int]) -> Request:
    """A client's request; the descriptors that come with it are added to `streams`. Raises OSError, ValueError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] != os.geteuid():
        raise ValueError("another user's")
    received, descriptors, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    streams += descriptors
    if len(received) != LENGTH.size or len(descriptors) != 3:
        raise ValueError("not a request")
    with connection.makefile("rb") as file:
        values = json.loads(file.read(LENGTH.unpack(received)[0]))
    return Request(values["arguments"], values["folder"], values["environment"], tuple(descriptors))


def _project_files() -> dict[str, tuple[int, int]]:
    """Time of change and size of each file of code of the project."""
    files = {}
    for package in ("flows", "steps", "infra"):
        for folder, folders, names in os.walk(_ROOT / package):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                if name.endswith(".py"):
                    with suppress(OSError):  # it went in between
                        status = os.stat(os.path.join(folder, name))
                        files[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_size)
    return files


def _reseed() -> None:
    """What libraries seed by chance when they are imported is by chance in each fork: names are made of it."""
    random.seed()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _run_file(arguments: list[str]) -> NoReturn:
    """Run a Python file as `python FILE ARGUMENT…` does."""
    sys.argv[:] = arguments
    sys.orig_argv[:] = [sys.executable, *arguments]
    path = os.path.abspath(arguments[0])
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]  # as a file that is run has it
    sys.modules["__main__"] = main
    try:
        code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        exec(code, main.__dict__)  # noqa: S102 - it is the flow
        status = 0
    except SystemExit as ended:
        status = _exit_status(ended)
    except BaseException as error:
        trace = error.__traceback__.tb_next if error.__traceback__ else None  # without this frame
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    _exit(status)


def _exit_status(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return (ended.code or 0) & 0xFF
    print(ended.code, file=sys.stderr)
    return 1


def _exit(status: int) -> NoReturn:
    """End as Python does, but for taking apart all that was imported: that takes a second, and is of no use."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def main() -> None:
    """See the module. Returns in no process but those in which it has failed."""
    path, engines = os.environ[SOCKET], ENGINES in os.environ
    call_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the flow and its steps, in the same group
    enter_flow_environment()
    server = ForkServer(path)
    if os.getppid() != int(sys.argv[1]):
        return  # the guard was gone before the kernel was asked to say so
    task = server.run(engines)
    task()


if __name__ == "__main__":
    main()
