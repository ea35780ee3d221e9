"""The first process (PID 1) of a box: runs the program in a child under its limits, reaps, and reports what it used.

Never imported: the text of this file goes to the box's Python as `-c`, followed by the report's file descriptor, the
program's path, and the limits as `limit` takes them. The report is one line: wait status, CPU seconds, peak KiB.

When PID 1 ends, the kernel kills whatever is left in the box, so no daemon of the program outlives it. `posix` stands
in for `os`, which an interpreter without `site` has not loaded yet: that import would be a tenth of a run.
"""

import builtins
import posix
import resource
import sys

OPEN_FILES = 64


def limit(address_space: int, file_size: int, processes: int, cpu_seconds: int) -> None:
    """Bind this process, and so all its children, to limits in bytes, bytes, processes and seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    # The soft limit sends SIGXCPU, by which a run out of time is known; a program that ignores it meets SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def run(path: str) -> None:
    """Run the program at `path` as `python path` would: in a `__main__` of its own, with nothing of this file in it."""
    module = type(sys)("__main__")
    module.__dict__.update(__builtins__=builtins, __file__=path)
    sys.modules["__main__"] = module
    sys.argv = [path]
    # `site` would define these; programs for judges end with exit() often.
    builtins.__dict__.update(exit=sys.exit, quit=sys.exit)
    with open(path, "rb") as file:
        source = file.read()
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - inside the box, where the program belongs


def wait_and_report(child: int, report: int) -> int:
    """Reap until the program has ended; its exit code, or 128 plus the number of the signal that killed it."""
    while True:
        pid, status, usage = posix.wait4(-1, 0)
        if pid == child:
            break
    posix.write(report, b"%d %.6f %d\n" % (status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
    code = posix.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    report, path, limits = int(sys.argv[1]), sys.argv[2], [int(value) for value in sys.argv[3:]]
    child = posix.fork()
    if child:
        posix._exit(wait_and_report(child, report))
    posix.close(report)
    limit(*limits)
    run(path)
