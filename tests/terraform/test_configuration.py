"""What can be read from terraform/ itself: style, pins, names that other programs know, and the local chart."""

import re
from pathlib import Path

import pytest
import yaml

from flows.cli.cloud import REQUIRED
from tests.terraform.scratch import SOURCE, Terraform

ROOTS = ("bootstrap", "stacks/cloud", "stacks/platform")
MODULES = sorted(path.name for path in (SOURCE / "modules").iterdir())
CHART = SOURCE / "charts" / "longhaul-resources"


def blocks(kind: str, file: Path) -> dict[str, str]:
    """The top-level blocks of one kind in a formatted file, by name."""
    text = file.read_text(encoding="utf-8")
    return dict(re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}', text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("folder", [*ROOTS, *(f"modules/{name}" for name in MODULES)])
def test_nothing_goes_in_or_out_undescribed(folder: str) -> None:
    for file in ("main.tf", "variables.tf", "outputs.tf", "versions.tf"):
        # The platform stack has a file for each thing that it installs.
        assert (SOURCE / folder / file).exists() or (folder, file) == ("stacks/platform", "main.tf")
    variables = blocks("variable", SOURCE / folder / "variables.tf")
    assert variables
    for name, body in variables.items():
        assert re.search(r"^  type\s+= ", body, re.MULTILINE), f"{folder}: variable {name} has no type"
        assert re.search(r"^  description\s+= ", body, re.MULTILINE), f"{folder}: variable {name} has no description"
        for message in re.findall(r"error_message = (.*)", body):
            assert len(message) > 40, f"{folder}: variable {name} does not say what to do"
    for name, body in blocks("output", SOURCE / folder / "outputs.tf").items():
        assert re.search(r"^  description\s+= ", body, re.MULTILINE), f"{folder}: output {name} has no description"


@pytest.mark.parametrize("root", ROOTS)
def test_what_people_set_is_checked(root: str) -> None:
    for name, body in blocks("variable", SOURCE / root / "variables.tf").items():
        kind = re.search(r"^  type\s+= (.*)", body, re.MULTILINE)
        assert kind is not None
        assert kind[1] == "bool" or "validation {" in body, f"{root}: nothing checks {name}"


def test_versions_are_pinned() -> None:
    for root in ROOTS:
        versions = re.findall(r"^ +version = \"(.*)\"", (SOURCE / root / "versions.tf").read_text(), re.MULTILINE)
        assert versions and all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions), root
    assert not list(SOURCE.rglob("kubernetes_manifest")), "it needs a live cluster to plan"
    for file in SOURCE.rglob("*.tf"):
        assert 'resource "kubernetes_manifest"' not in file.read_text(encoding="utf-8"), file


def test_metaflow_knows_every_setting_of_the_output() -> None:
    import metaflow

    config = Path(metaflow.__file__).with_name("metaflow_config.py").read_text(encoding="utf-8")
    known = {f"METAFLOW_{name}" for name in re.findall(r"from_conf\(\s*\"(\w+)\"", config)}
    reported = set(
        re.findall(r"^\s+(METAFLOW_\w+)\s+=", (SOURCE / "stacks/platform/outputs.tf").read_text(), re.MULTILINE)
    )
    assert len(reported) > 20
    assert reported <= known, reported - known
    assert set(REQUIRED) <= reported


def rendered() -> dict[str, dict]:
    """The chart's templates with its default values, by kind: values and no logic are all they hold."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def value(match: re.Match[str]) -> str:
        value = values
        for part in match[1].split("."):
            value = value[part]
        return f'"{value}"' if match[2] else str(value)

    resources = {}
    for file in (CHART / "templates").glob("*.yaml"):
        text = re.sub(r"{{ \.Values\.([\w.]+)( \| quote)? }}", value, file.read_text(encoding="utf-8"))
        assert "{{" not in text, f"{file.name} has logic, which nothing here can check"
        resource = yaml.safe_load(text)
        resources[resource["kind"]] = resource
    return resources


def test_the_chart_renders_the_names_that_metaflow_gets() -> None:
    resources = rendered()
    assert set(resources) == {"EventBus", "EventSource", "SecretProviderClass"}
    source = resources["EventSource"]
    assert source["metadata"]["name"] == "argo-events-webhook"
    webhook = source["spec"]["webhook"]["metaflow-event"]
    assert webhook == {"port": "12000", "endpoint": "/metaflow-event", "method": "POST"}
    assert source["spec"]["eventBusName"] == resources["EventBus"]["metadata"]["name"] == "default"
    assert source["metadata"]["namespace"] == resources["EventBus"]["metadata"]["namespace"]


def test_the_chart_takes_the_password_as_the_pods_own_role() -> None:
    provider = rendered()["SecretProviderClass"]["spec"]
    assert provider["parameters"]["usePodIdentity"] == "true"
    (object_,) = yaml.safe_load(provider["parameters"]["objects"])
    assert object_["jmesPath"] == [{"path": "password", "objectAlias": "password"}]
    assert provider["secretObjects"][0]["data"] == [{"objectName": "password", "key": "password"}]


def test_terraform_gives_the_chart_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    resources = (SOURCE / "stacks/platform/resources.tf").read_text(encoding="utf-8")
    for name in [*values, *values["events"], *values["databaseSecret"]]:
        assert re.search(rf"\b{name}\s+= ", resources), f"resources.tf does not give {name}"


def test_files_are_formatted(terraform: Terraform) -> None:
    done = terraform.run(".", "fmt", "-check", "-recursive", "-no-color", ok=False)
    assert done.returncode == 0, f"run `terraform fmt -recursive terraform`: {done.stdout}"


@pytest.mark.parametrize("root", ROOTS)
def test_each_root_is_valid(terraform: Terraform, root: str) -> None:
    terraform.ready(root)
    terraform.run(root, "validate", "-no-color")


@pytest.mark.slow
@pytest.mark.parametrize("root", [*ROOTS, *(f"modules/{name}" for name in MODULES)])
def test_each_root_passes_its_own_tests(terraform: Terraform, root: str) -> None:
    assert list((SOURCE / root / "tests").glob("*.tftest.hcl")), f"{root} has no tests"
    terraform.ready(root)
    done = terraform.run(root, "test", "-no-color")
    assert re.search(r"[1-9]\d* passed, 0 failed", done.stdout), done.stdout
