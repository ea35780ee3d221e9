"""A program that does one of several things, and which a fork and a plain process should do alike.

python fork_probe.py step THING
"""

import os
import signal
import sys
import threading
import time


def main() -> None:
    thing = sys.argv[2]
    if thing == "print":
        print(__name__, __file__, sys.argv, os.getcwd(), sys.path[0], sys.modules["__main__"].__dict__ is globals())
        print({name: value for name, value in os.environ.items() if name.startswith("PROBE") or name == "HOME"})
        print(sys.stdin.readline(), file=sys.stderr)
    elif thing == "modules":
        print(*sys.modules)
    elif thing == "exit":
        threading.Timer(0.2, print, ["a thread's last word"]).start()
        sys.exit(3)
    elif thing == "message":
        sys.exit("a message")
    elif thing == "raise":
        raise ValueError("a fault")
    elif thing == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    elif thing == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif thing == "wait":
        try:
            print(os.getpid(), flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(130)


if __name__ == "__main__":
    main()
