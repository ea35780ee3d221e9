"""A pod of a workflow as a process here: the command that Argo would run, in a root without the project.

It has bubblewrap's view of this machine: the checkout is gone but for the virtual environment, /tmp, /mnt/out and the
home are empty, and the folder that it stands in too. What it knows, it has from S3.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.environment import CACHE

ROOT = Path(__file__).parents[3]
WORKFLOW = "posttrain-x7k2p"


def fill(text: str, workflow: str, inputs: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    """A text with Argo's expressions replaced by their values."""

    def value(match: re.Match[str]) -> str:
        expression = match[1]
        if inner := re.fullmatch(r"=toBase64\(workflow\.parameters\['(\w+)'\]\)", expression):
            return base64.b64encode(parameters[inner[1]].encode()).decode()
        if inner := re.fullmatch(r"inputs\.parameters\.([\w-]+)", expression):
            return inputs[inner[1]]
        if expression.startswith("=asInt"):
            return expression
        known = {"workflow.name": workflow, "workflow.creationTimestamp": "2026-11-01T03:00:00Z", "retries": "0"}
        return known[expression]

    return re.sub(r"\{\{(.*?)\}\}", value, text)


def run_pod(
    container: Mapping[str, Any],
    workflow: str,
    inputs: Mapping[str, str],
    parameters: Mapping[str, str],
    machine: Mapping[str, str],
    folder: Path,
) -> subprocess.CompletedProcess[str]:
    """Run a container's command. What it would give to Argo lies in `folder/out` then.

    Args:
        workflow: the name of the workflow that the pod belongs to.
        machine: environment variables that a node and an image would have: credentials, the store's address.
    """
    places = {name: folder / name for name in ("out", "stand", "tmp", "home")}
    for place in places.values():
        place.mkdir(parents=True)
    own = {
        one["name"]: fill(str(one["value"]), workflow, inputs, parameters)
        for one in container["env"]
        if one.get("value")
    }
    # As with the local metadata of Metaflow: the service is not to be had here.
    command = [
        fill(word, workflow, inputs, parameters).replace("--metadata=service", "--metadata=local")
        for word in container["command"]
    ]
    environment = {
        **own,
        "METAFLOW_SERVICE_URL": "",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_KUBERNETES_POD_NAME": "pod",
        "METAFLOW_KUBERNETES_POD_NAMESPACE": "longhaul",
        "METAFLOW_KUBERNETES_POD_ID": "1",
        "METAFLOW_KUBERNETES_SERVICE_ACCOUNT_NAME": "longhaul-task",
        "METAFLOW_KUBERNETES_NODE_IP": "127.0.0.1",
        # What the image says.
        "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.defpath]),
        "HOME": "/home/pod",
        "LONGHAUL_HOME": "/home/pod/longhaul",
        "TORCH_EXTENSIONS_DIR": "/home/pod/extensions",
        "OMP_NUM_THREADS": "1",
        **machine,
    }
    # A cache as the image has it, of one's own to write to.
    extensions = CACHE.resolve() / "torch_extensions"
    if extensions.is_dir():
        shutil.copytree(extensions, places["home"] / "extensions", ignore=shutil.ignore_patterns("*lock"))
    view = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--dev-bind", "/dev", "/dev", "--die-with-parent"]
    view += ["--tmpfs", "/mnt", "--tmpfs", "/home", "--bind", str(places["tmp"]), "/tmp"]
    view += ["--tmpfs", str(ROOT), "--ro-bind", sys.prefix, sys.prefix]
    # Users of the sandbox's boxes are the machine's, of which all pods here have the same one.
    boxes = Path(tempfile.gettempdir(), "longhaul-boxes")
    boxes.mkdir(mode=0o700, exist_ok=True)
    view += ["--bind", str(boxes), f"/tmp/{boxes.name}"]
    for inside, name in (("/mnt/out", "out"), ("/home/pod", "home"), ("/home/stand", "stand")):
        view += ["--bind", str(places[name]), inside]
    return subprocess.run(
        [
            *view,
            "--chdir",
            "/home/stand",
            "--clearenv",
            *(part for n, v in environment.items() for part in ("--setenv", n, v)),
            *command,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
