"""The first process (PID 1) of a box: runs programs in children under their limits, reaps, and reports what they used.

Never imported: every image holds this file, compiled, and the box's Python is started with it and the number of a
socket to the outside. A message is a command (its words on lines; none for the program in this Python) and the limits,
separated by zero bytes, with the three descriptors that become its standard input, output and error. The answer is one
line: wait status, CPU seconds, peak KiB. No program ever has the socket, and none can trace this process, so that the
answers are true.

When PID 1 ends, the kernel kills whatever is left in the box, so no daemon of the program outlives it. `posix` and
`_socket` stand in for `os` and `socket`, which an interpreter without `site` has not loaded yet: those imports would be
a tenth of a run.
"""

import _socket
import atexit
import builtins
import gc
import posix
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from typing import NoReturn

PROGRAM = "/box/program.py"
OPEN_FILES = 64
SIGKILL = 9


def limit(address_space: int, file_size: int, processes: int, cpu_seconds: int, open_files: int) -> None:
    """Bind this process, and so all its children, to limits in bytes (0: none), bytes, processes and seconds."""
    if address_space:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    # The soft limit sends SIGXCPU, by which a run out of time is known; a program that ignores it meets SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def run_here(path: str) -> "NoReturn":
    """Run the program at `path` as `python path` would: in a `__main__` of its own, with nothing of this file in it."""
    module = type(sys)("__main__")
    module.__dict__.update(__builtins__=builtins, __file__=path)
    sys.modules["__main__"] = module
    sys.argv = [path]
    # `site` would define these; programs for judges end with exit() often.
    builtins.__dict__.update(exit=sys.exit, quit=sys.exit)
    code = 0
    try:
        with open(path, "rb") as file:
            source = file.read()
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - inside the box, where the program belongs
    except SystemExit as error:
        code = exit_code(error.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    end(module, code)


def exit_code(value: object) -> int:
    """What Python's exit code is for the argument of sys.exit."""
    if value is None or isinstance(value, int):
        return (value or 0) & 0xFF
    print(value, file=sys.stderr)
    return 1


def flush_outputs() -> None:
    """Flush the standard files, the program's own and the first ones."""
    for file in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        if file is not None and not file.closed:
            file.flush()


def end(module: "types.ModuleType", code: int) -> "NoReturn":
    """End as Python does: wait for threads, call what atexit knows, let go of the program's objects, so that files of
    its own are flushed, and flush the standard ones. What is left out is to take the interpreter itself apart, which
    would be a fifth of a run."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    try:
        flush_outputs()
        module.__dict__.clear()
        gc.collect()
        flush_outputs()
    except (OSError, ValueError, AttributeError):
        code = 120  # as Python says that output was lost
    finally:
        posix._exit(code)


def wait_for(child: int) -> bytes:
    """Reap until the program has ended, kill what it left, and say what all of them used."""
    seconds, peak, result = 0.0, 0, 0
    while True:
        try:
            pid, status, usage = posix.wait4(-1, 0)
        except ChildProcessError:
            return b"%d %.6f %d\n" % (result, seconds, peak)
        seconds += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss)
        if pid == child:
            result = status
            try:  # noqa: SIM105 - contextlib is not loaded
                posix.kill(-1, SIGKILL)
            except ProcessLookupError:
                pass  # nothing is left


def main() -> None:
    """Run what is asked for until the outside closes the socket. Returns in the program's own process."""
    outside = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, int(sys.argv[1]))
    outside.send(b"ready")
    gc.freeze()  # children that collect garbage then leave the memory that they share with this process alone
    while True:
        message, ancillary, _, _ = outside.recvmsg(4096, _socket.CMSG_SPACE(12))
        if not message:
            posix._exit(0)
        command, *limits = message.split(b"\0")
        data = ancillary[0][2]
        descriptors = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in (0, 4, 8)]
        child = posix.fork()
        if not child:
            outside.close()
            for place, descriptor in enumerate(descriptors):
                posix.dup2(descriptor, place)
            for descriptor in descriptors:
                posix.close(descriptor)
            limit(*map(int, limits))
            if command:
                argv = command.split(b"\n")
                posix.execv(argv[0], argv)
            return
        for descriptor in descriptors:
            posix.close(descriptor)
        outside.send(wait_for(child))


if __name__ == "__main__":
    main()
    run_here(PROGRAM)
