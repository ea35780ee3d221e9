"""Compile a flow for Argo Workflows with nothing sent: what would be is written to a folder.

    python flows/cluster/argo_recorder.py FOLDER CHANGES FLOW ARGUMENT…      with the flow's own command line

Metaflow's own way to show what it compiles (`create --only-json`) leaves out CronWorkflow and Sensor, and uploads the
code package. Here `create` runs as it is; the two edges that it reaches are replaced: the Kubernetes API, which knows
of nothing and records what it is sent (FOLDER/*.json, and FOLDER/*.deleted for what is to go), and the datastore in
S3, which keeps the code package.
"""

import json
import runpy
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.cluster.argo_create import ChangingApi, delete_missing_schedules
from flows.cluster.workflow_changes import WorkflowChanges

PACKAGE = "code-package.tgz"
TOKEN = "written-by-a-dry-run"
"""In place of the production token, which is made at the first deployment and kept by the cluster."""


class _NoSuchObject(Exception):
    status = 404


class _Rest:
    ApiException = _NoSuchObject


class _Api:
    """Kubernetes' API for custom resources, as far as Metaflow calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rest = _Rest

    def CustomObjectsApi(self) -> "_Api":
        return self

    def get_namespaced_custom_object(self, **options: Any) -> None:
        raise _NoSuchObject

    def create_namespaced_custom_object(self, *, body: Mapping[str, Any], namespace: str, **options: Any) -> None:
        document = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
        path = self.folder / f"{body['kind'].lower()}-{body['metadata']['name']}.json"
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")

    def delete_namespaced_custom_object(self, *, plural: str, name: str, **options: Any) -> None:
        (self.folder / f"{plural.removesuffix('s')}-{name}.deleted").touch()


def record(folder: Path, changes: WorkflowChanges, flow: str, arguments: list[str]) -> None:
    """Run a flow's command line, and write what it would have sent."""
    from metaflow.plugins.argo import argo_client, argo_workflows_cli
    from metaflow.plugins.datastores.s3_storage import S3Storage

    class Client:
        def get(self) -> ChangingApi:
            return ChangingApi(_Api(folder), changes)

    def save_bytes(self: Any, files: Iterator[tuple[str, Any]], overwrite: bool = False, len_hint: int = 0) -> None:
        for _, content in files:
            stream = content[0] if isinstance(content, tuple) else content
            (folder / PACKAGE).write_bytes(stream.read())

    def is_file(self: Any, paths: Iterable[str]) -> list[bool]:
        return [False for _ in paths]

    for owner, name, instead in (
        (argo_client, "KubernetesClient", Client),
        (argo_workflows_cli, "resolve_token", lambda *arguments: TOKEN),
        (argo_workflows_cli, "SERVICE_VERSION_CHECK", False),
        (S3Storage, "save_bytes", save_bytes),
        (S3Storage, "is_file", is_file),
    ):
        setattr(owner, name, instead)
    delete_missing_schedules()
    sys.argv = [flow, *arguments]
    runpy.run_path(flow, run_name="__main__")


if __name__ == "__main__":
    its_changes = WorkflowChanges.model_validate_json(Path(sys.argv[2]).read_text(encoding="utf-8"))
    record(Path(sys.argv[1]), its_changes, sys.argv[3], sys.argv[4:])
