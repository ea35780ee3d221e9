"""A node that is not the first, as a process: python -m tests.infra.cluster.node_process INDEX COUNT MAIN KEY PORT."""

import sys

from infra.cluster.connection import Node, NodeLost
from infra.cluster.member import GroupEnded, serve

if __name__ == "__main__":
    index, count, main, key, port = sys.argv[1:]
    try:
        serve(Node(int(index), int(count), main, key, int(port)), patience=30)
    except (NodeLost, GroupEnded) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(3)
