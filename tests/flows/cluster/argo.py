"""Compiling flows for Argo Workflows in tests, and reading what came out."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SCHEMAS = Path(__file__).parent / "schemas"

PROFILE = {
    "METAFLOW_DATASTORE_SYSROOT_S3": "s3://artifacts/metaflow",
    "METAFLOW_DATATOOLS_S3ROOT": "s3://artifacts/metaflow/data",
    "METAFLOW_CARD_S3ROOT": "s3://artifacts/metaflow/mf.cards",
    "METAFLOW_DEFAULT_METADATA": "service",
    "METAFLOW_SERVICE_URL": "https://metaflow.example.com",
    "METAFLOW_SERVICE_INTERNAL_URL": "http://metaflow-service.metaflow.svc.cluster.local:8080",
    "METAFLOW_KUBERNETES_NAMESPACE": "longhaul",
    "METAFLOW_KUBERNETES_SERVICE_ACCOUNT": "longhaul-task",
    "METAFLOW_KUBERNETES_CONTAINER_IMAGE": "registry.example.com/longhaul:0.1.0-gpu",
    "METAFLOW_ARGO_WORKFLOWS_USE_SCHEDULES": "true",
    "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "longhaul-events",
    "METAFLOW_ARGO_EVENTS_EVENT_BUS": "default",
    "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "metaflow",
    "METAFLOW_ARGO_EVENTS_EVENT": "metaflow-event",
    "METAFLOW_ARGO_EVENTS_SENSOR_NAMESPACE": "longhaul",
    "METAFLOW_ARGO_EVENTS_WEBHOOK_URL": "http://localhost:12000/metaflow-event",
    "METAFLOW_ARGO_EVENTS_INTERNAL_WEBHOOK_URL": "http://metaflow-eventsource-svc.longhaul.svc:12000/metaflow-event",
    "METAFLOW_ARGO_EVENTS_WEBHOOK_AUTH": "none",
    "METAFLOW_USER": "ada",
    "USER": "ada",
}
"""Metaflow's configuration, as Terraform's platform stack gives it out."""

TEMPLATE_EXPRESSION = re.compile(r"\{\{.*?\}\}")


def templates(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A workflow template's own, by their names."""
    return {one["name"]: one for one in document["spec"]["templates"]}


def jobset(template: Mapping[str, Any]) -> dict[str, Any]:
    """The JobSet that a template makes, with values in place of Argo's expressions."""
    text = template["resource"]["manifest"].replace("{{=asInt(inputs.parameters.workerCount)}}", "3")
    results: dict[str, Any] = yaml.safe_load(TEMPLATE_EXPRESSION.sub("filled-in", text))
    return results


def manifest(template: Mapping[str, Any]) -> dict[str, Any]:
    """The JobSet that a template makes, with Argo's expressions as they are."""
    results: dict[str, Any] = yaml.safe_load(_quoted(template["resource"]["manifest"]))
    return results


def without_nothing(value: Any) -> Any:
    """Without the keys that hold null, which Kubernetes takes for absent."""
    if isinstance(value, dict):
        return {name: without_nothing(one) for name, one in value.items() if one is not None}
    return [without_nothing(one) for one in value] if isinstance(value, list) else value


def check(document: Mapping[str, Any], file: str, definition: str | None = None) -> None:
    """Raise where an object is not as its project's schema has it, or has a field that the schema does not have."""
    schema = _closed(json.loads((SCHEMAS / file).read_text()))
    if definition is not None:
        # Written as strings alone, for Swagger has no way to say the other.
        schema["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
        schema = {"definitions": schema["definitions"], "$ref": f"#/definitions/{definition}"}
    jsonschema.Draft7Validator(schema).validate(without_nothing(document))


def _closed(schema: Any) -> Any:
    """The schema, with no fields but those that it names."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema and "type" in schema:
        closed["additionalProperties"] = False
    return closed


def settled(document: Mapping[str, Any]) -> Any:
    """An object without what differs from one compilation to the next, commands cut to the flow's own."""
    text = json.dumps(without_nothing(document))
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{40}\b", "SHA1", text)
    return _settled(json.loads(text))


def _settled(value: Any) -> Any:
    if isinstance(value, list):
        return [_settled(one) for one in value]
    if not isinstance(value, dict):
        return value
    results = {}
    for name, one in value.items():
        if name == "manifest":
            results[name] = _settled(without_nothing(yaml.safe_load(_quoted(one))))
        elif name == "command":
            step = re.search(r"(python \S+\.py (?:--\S+ )*step .*?)\) 1>>", one[-1])
            results[name] = [f"… {step[1]} …" if step else "…"]
        elif name == "env":
            # Metaflow's own, which say what Metaflow's configuration says.
            results[name] = [_settled(each) for each in one if not each["name"].startswith(("METAFLOW_", "ARGO_"))]
        else:
            results[name] = _settled(one)
    return results


def _quoted(manifest: str) -> str:
    """A manifest that is YAML before Argo fills in its numbers."""
    return re.sub(r"(: )(\{\{=.*?\}\})$", r"\1'\2'", manifest, flags=re.MULTILINE)


REFERENCE = re.compile(r"\{\{tasks\.([\w-]+)\.outputs\.parameters\.([\w-]+)\}\}")


def walk(document: Mapping[str, Any], run: Callable[[str, dict[str, str]], dict[str, str] | None]) -> dict[str, str]:
    """Take a workflow's tasks in their order as Argo does: each task's status.

    Args:
        run: called with the name and the parameters of each task that Argo would start; returns its output parameters,
            None where it failed.

    Raises KeyError where a task that is started needs an output that is not there: Argo would wait for it for ever.
    """
    outputs: dict[str, dict[str, str]] = {}
    statuses: dict[str, str] = {}

    def filled(text: str) -> str:
        return REFERENCE.sub(lambda match: outputs[match[1]][match[2]], text)

    for task in templates(document)[document["spec"]["entrypoint"]]["dag"]["tasks"]:
        name, depends = task["name"], task["depends"]
        awaited = re.findall(r"([a-z][a-z0-9-]*)\.([A-Z][a-z]+)", depends)
        logic = depends.replace("&&", " and ").replace("||", " or ")
        for other, status in awaited:
            logic = re.sub(rf"(?<![\w-]){other}\.{status}", str(statuses[other] == status), logic)
        if depends and not _true(logic):
            statuses[name] = "Omitted"
        elif "when" in task and len(set(filled(task["when"]).split(" == "))) > 1:
            statuses[name] = "Skipped"
        else:
            parameters = task.get("arguments", {}).get("parameters", ())
            made = run(name, {one["name"]: filled(one["value"]) for one in parameters})
            outputs |= {} if made is None else {name: made}
            statuses[name] = "Failed" if made is None else "Succeeded"
    return statuses


def _true(logic: str) -> bool:
    """Whether a term of True, False, `and`, `or` and parentheses holds."""
    tree = ast.parse(logic.strip(), mode="eval")

    def value(node: ast.expr) -> bool:
        if isinstance(node, ast.BoolOp):
            values = [value(one) for one in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        assert isinstance(node, ast.Constant) and isinstance(node.value, bool), ast.unparse(node)
        return node.value

    return value(tree.body)
