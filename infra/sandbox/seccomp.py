"""Which system calls a program in a box may make: what Python, compilers and Node use, and no more.

All others fail with EPERM. Not among them, each a way by which containers have been left: ptrace and process_vm,
user namespaces and mounts, keyrings, bpf, perf, io_uring, userfaultfd, kernel modules, and sockets of other families
than Unix and Internet ones (a box has no network device but its own loopback).

Nor are flock, leases, locks of open files and inotify, by which two boxes could signal each other over a file of the
image that they share. Record locks (fcntl) are left: SQLite needs them.
"""

import ctypes
import errno
import functools
import os
import tempfile
from typing import Any

from infra.sandbox.interface import SandboxUnavailable

_NAMES = """
accept accept4 access alarm arch_prctl bind brk chdir chmod clock_getres clock_gettime clock_nanosleep close
close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2
epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod
fchmodat fdatasync fork fstat fstatfs fsync ftruncate futex futex_waitv getcpu getcwd getdents getdents64
getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid get_robust_list
ioctl kill link linkat listen lseek lstat madvise
membarrier mincore mkdir mkdirat mlock mmap mprotect mremap msync munlock munmap nanosleep newfstatat
open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 poll ppoll prctl pread64 preadv preadv2 prlimit64
pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_get_priority_max
sched_get_priority_min sched_setaffinity sched_yield select sendfile sendmmsg sendmsg sendto setitimer setpgid
setpriority setrlimit setsid setsockopt set_robust_list set_tid_address shutdown sigaltstack socketpair splice stat
statfs statx symlink symlinkat sync_file_range sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink
unlinkat utime utimensat utimes vfork wait4 waitid write writev
"""
ALLOWED = tuple(_NAMES.split())

NAMESPACE_FLAGS = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, and NEWTIME, which stands in the lowest byte."""

SOCKET_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6"""

FCNTL_COMMANDS = (*range(0, 12), *range(1030, 1035))
"""Descriptors, flags, record locks and owners; F_DUPFD_CLOEXEC, the sizes of pipes, and seals. Not F_SETLEASE, F_NOTIFY
and locks of open files."""

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EQUAL, _MASKED_EQUAL = 4, 7


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise SandboxUnavailable("no libseccomp: apt-get install libseccomp2") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.POINTER(_Compare),
    ]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    return library


def allowed(memory_files: bool) -> tuple[str, ...]:
    """Names of the calls that are allowed whatever their arguments are."""
    return (*ALLOWED, "memfd_create") if memory_files else ALLOWED


@functools.cache
def compiled(memory_files: bool) -> bytes:
    """The filter as the kernel takes it (an array of struct sock_filter), made by libseccomp for this machine.

    Args:
        memory_files: allow memfd_create. Only control groups count what such files hold.

    Raises SandboxUnavailable without libseccomp.
    """
    library = _library()
    context = library.seccomp_init(_ERRNO | errno.EPERM)

    def rule(action: int, name: str, *conditions: _Compare) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # this architecture, or this libseccomp, does not know it, so it stays denied
        array = (_Compare * max(1, len(conditions)))(*conditions)
        if library.seccomp_rule_add_array(context, action, number, len(conditions), array):
            raise SandboxUnavailable(f"libseccomp takes no rule for {name}")

    for name in allowed(memory_files):
        rule(_ALLOW, name)
    for command in FCNTL_COMMANDS:
        rule(_ALLOW, "fcntl", _Compare(1, _EQUAL, command, 0))
    rule(_ALLOW, "clone", _Compare(0, _MASKED_EQUAL, NAMESPACE_FLAGS, 0))
    # Its flags lie in memory, where a filter cannot look; the C library then takes clone.
    rule(_ERRNO | errno.ENOSYS, "clone3")
    for family in SOCKET_FAMILIES:
        rule(_ALLOW, "socket", _Compare(0, _EQUAL, family, 0))
    with tempfile.TemporaryFile() as file:
        failed = library.seccomp_export_bpf(context, file.fileno())
        library.seccomp_release(context)
        if failed:
            raise SandboxUnavailable(f"libseccomp cannot export the filter: {os.strerror(-failed)}")
        file.seek(0)
        return file.read()


def for_oci(memory_files: bool) -> dict[str, Any]:
    """The same filter as an OCI runtime takes it."""

    def rule(action: str, *names: str, **rest: Any) -> dict[str, Any]:
        return {"names": list(names), "action": action, **rest}

    masked = {"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "syscalls": [
            rule("SCMP_ACT_ALLOW", *allowed(memory_files)),
            *(
                rule("SCMP_ACT_ALLOW", "fcntl", args=[{"index": 1, "value": command, "op": "SCMP_CMP_EQ"}])
                for command in FCNTL_COMMANDS
            ),
            rule("SCMP_ACT_ALLOW", "clone", args=[masked]),
            rule("SCMP_ACT_ERRNO", "clone3", errnoRet=errno.ENOSYS),
            *(
                rule("SCMP_ACT_ALLOW", "socket", args=[{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}])
                for family in SOCKET_FAMILIES
            ),
        ],
    }
