"""The first of two nodes, as a process: python -m tests.infra.cluster.first_process KEY PORT MODEL.

It generates on the Ray cluster of both, and prints what came out, and on how many nodes. A process of its own, for Ray
reads its token once, when it is loaded, and vLLM loads it.
"""

import json
import os
import sys
from pathlib import Path

from infra.cluster.group import Node, lead
from infra.configs import EngineConfig
from infra.inference.workers import RolloutWorkers
from tests.infra.engine_process import requests

if __name__ == "__main__":
    key, port, model = sys.argv[1:]
    with lead(Node(0, 2, "127.0.0.1", key, int(port)), patience=60) as group:
        group.start_ray([(), ()], cpus=1)
        workers = RolloutWorkers(Path(model), EngineConfig(max_sequences=4, workers=2))
        import ray

        nodes = len({one["NodeID"] for one in ray.nodes() if one["Alive"]})
        tokens = [one.tokens for one in workers.generate_all(requests())]
        workers.close()
    assert "RAY_ADDRESS" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ
    print(json.dumps({"nodes": nodes, "tokens": tokens}))
