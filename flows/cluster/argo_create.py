"""Deploy a flow to Argo Workflows with Longhaul's changes.

    python flows/cluster/argo_create.py CHANGES FLOW ARGUMENT…      with the flow's own command line

CHANGES is a file with the JSON of flows.cluster.workflow_changes.WorkflowChanges. Metaflow's `create` runs as it is;
what it sends to Kubernetes is changed on the way. A flow without a schedule has its CronWorkflow deleted: Metaflow
would send one with an empty list of schedules, which Argo 4 refuses.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from flows.cluster.workflow_changes import WorkflowChanges, changed


class ChangedObjects:
    """Kubernetes' API for custom resources, with changes to what is sent."""

    def __init__(self, api: Any, changes: WorkflowChanges) -> None:
        self._api, self._changes = api, changes

    def create_namespaced_custom_object(self, *, body: Any, **options: Any) -> Any:
        """As Kubernetes' client has it."""
        return self._api.create_namespaced_custom_object(body=changed(body, self._changes), **options)

    def replace_namespaced_custom_object(self, *, body: Any, **options: Any) -> Any:
        """As Kubernetes' client has it."""
        return self._api.replace_namespaced_custom_object(body=changed(body, self._changes), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


class ChangingApi:
    """Kubernetes' client module, with changes to the custom resources that are sent."""

    def __init__(self, module: Any, changes: WorkflowChanges) -> None:
        self._module, self._changes = module, changes

    def CustomObjectsApi(self) -> ChangedObjects:
        """As Kubernetes' client has it."""
        return ChangedObjects(self._module.CustomObjectsApi(), self._changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def delete_missing_schedules() -> None:
    """Have Metaflow's client delete the CronWorkflow of a flow that has no schedule."""
    from metaflow.plugins.argo.argo_client import ArgoClient

    send = ArgoClient.schedule_workflow_template

    def schedule(self: Any, name: str, schedule: str | None = None, timezone: str | None = None) -> Any:
        return self.delete_cronworkflow(name) if schedule is None else send(self, name, schedule, timezone)

    setattr(ArgoClient, "schedule_workflow_template", schedule)  # noqa: B010


def create(changes: WorkflowChanges, flow: str, arguments: list[str]) -> None:
    """Run a flow's command line with the changes."""
    from metaflow.plugins.argo import argo_client

    original = argo_client.KubernetesClient

    class Client:
        def __init__(self) -> None:
            self._client = original()

        def get(self) -> ChangingApi:
            return ChangingApi(self._client.get(), changes)

    setattr(argo_client, "KubernetesClient", Client)  # noqa: B010
    delete_missing_schedules()
    sys.argv = [flow, *arguments]
    runpy.run_path(flow, run_name="__main__")


if __name__ == "__main__":
    create(
        WorkflowChanges.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2], sys.argv[3:]
    )
