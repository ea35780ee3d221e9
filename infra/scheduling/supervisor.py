"""The process over a scheduled run: it writes down how the run ended, also where the scheduler is gone by then.

    python -S -E supervisor.py STATUS_FILE COMMAND…

SIGTERM and SIGINT are passed on to the run. The exit status is the run's. Imports nothing of Longhaul: it starts in no
time, and takes no memory beside a run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from types import FrameType


def supervise(status_file: str, command: list[str]) -> int:
    """Run a command, and write how it ended: {"status", "ended", "stopped"}. Returns its exit status."""
    stopped = False
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        if child is not None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    try:
        child = subprocess.Popen(command, close_fds=False)
        if stopped:
            child.send_signal(signal.SIGTERM)
        status = child.wait()
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", flush=True)
        status = 127
    aside = f"{status_file}.part"
    with open(aside, "w", encoding="utf-8") as file:
        json.dump({"status": status, "ended": time.time(), "stopped": stopped}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, status_file)
    return status


if __name__ == "__main__":
    exit_status = supervise(sys.argv[1], sys.argv[2:])
    if exit_status < 0:
        # End as the run did, so that whoever waits sees the signal.
        signal.signal(-exit_status, signal.SIG_DFL) if -exit_status not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -exit_status)
    sys.exit(exit_status)
