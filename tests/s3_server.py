"""moto's S3 server as a process of its own: prints its address, and ends when its standard input does.

Not in the tests' process, for vLLM looks into every loaded module, and moto's web framework does not bear that.
"""

import contextlib
import sys

from moto.server import ThreadedMotoServer


def main() -> None:
    """Serve until standard input ends."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    with contextlib.redirect_stdout(sys.stderr):
        server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
