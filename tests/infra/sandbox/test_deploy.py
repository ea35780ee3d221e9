"""What can be read from the service's Dockerfile and manifests. Building and applying them needs what is not here."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from flows.cli.sandbox import serve
from infra.environment import CACHE
from infra.sandbox.messages import WAIT_SECONDS
from infra.sandbox.service import ServiceConfig

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "sandbox" / "deploy"
COPY = re.compile(r"^COPY (.+) (\S+)$", re.MULTILINE)
MIB = 2**20
NAMES = "print(json.dumps({n: m.__file__ for n, m in sys.modules.items() if getattr(m, '__file__', None)}))"


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert len({document["kind"] for document in documents}) == len(documents) == 4
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Any]) -> dict[str, Any]:
    return manifests["Deployment"]["spec"]["template"]["spec"]


def arguments(container: dict[str, Any]) -> dict[str, str]:
    return dict(argument.split("=") for argument in container["args"])


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith(("#", " "))]
    return dict(line.split("==") for line in lines if "==" in line)


def test_the_service_s_packages_are_pinned_as_everywhere_and_complete() -> None:
    expected, all_pins = pins(DEPLOY / "requirements.txt"), pins(ROOT / "requirements" / "cpu.txt")
    assert expected and expected.items() <= all_pins.items()
    for name in expected:
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": "", "python_version": "3.11"}):
                assert needed.name.lower().replace("_", "-") in expected, f"{name} needs {needed}"


def test_what_the_image_copies_and_installs_is_enough_to_run_programs(dockerfile: str, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    installed.mkdir()
    for name in pins(DEPLOY / "requirements.txt"):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (installed / top).exists():
                (installed / top).symlink_to(str(distribution.locate_file(top)))
    for sources, target in COPY.findall(dockerfile):
        for source in sources.split():
            place = tmp_path / target / (Path(source).name if target.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
            copy(ROOT / source, place)
    (tmp_path / "program.py").write_text("print('runs')")

    def python(*arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed),
            "LONGHAUL_HOME": str(CACHE.parent.resolve()),
        }
        command = [sys.executable, "-S", "-B", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert python("-m", "flows.cli.sandbox", "run", "program.py") == "runs\n"
    modules = json.loads(python("-c", "import flows.cli.sandbox, infra.sandbox.service, sys, json\n" + NAMES)).items()
    assert not [file for _, file in modules if ROOT in Path(file).parents and "site-packages" not in file]
    assert not {"torch", "vllm", "metaflow"} & {name for name, _ in modules}


def test_the_image_is_debian_12_and_its_packages_have_versions(dockerfile: str) -> None:
    assert re.findall(r"^ARG BASE=(.*)$", dockerfile, re.MULTILINE) == ["debian:bookworm-slim"]
    assert re.findall(r"^FROM (.*)$", dockerfile, re.MULTILINE) == ["${BASE}"]
    (listed,) = re.findall(r"--no-install-recommends \\\n(.*?) && rm", dockerfile, re.DOTALL)
    packages = [line.strip(" \\") for line in listed.splitlines()]
    assert len(packages) >= 7 and all(re.fullmatch(r"[a-z0-9+-]+=[0-9][0-9:.]*[.*-]+", package) for package in packages)
    names = {package.partition("=")[0] for package in packages}
    languages = [yaml.safe_load(file.read_text()) for file in (ROOT / "infra/sandbox/images").glob("*/image.yaml")]
    assert names >= {"bubblewrap", "crun"} | {language["debian"] for language in languages if "debian" in language}
    assert not re.search(r"(?i)token=|secret=|password", dockerfile)


def test_the_entry_point_is_a_shell_script_that_serves(dockerfile: str) -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    script = ROOT / json.loads(entry)[-1]
    assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
    assert script.read_text().rstrip().endswith('exec /opt/longhaul/bin/python -m flows.cli.sandbox serve "$@"')


def test_pods_have_no_way_into_the_cluster(manifests: dict[str, Any], pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert not (pod["hostNetwork"] or pod["hostPID"] or pod["hostIPC"])
    assert not any("hostPath" in volume for volume in pod["volumes"])
    policy = manifests["NetworkPolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and policy["egress"] == []
    assert policy["podSelector"] == manifests["Deployment"]["spec"]["selector"]
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"longhaul/sandbox-client": "true"} and len(rule["ports"]) == 1


def test_the_container_has_the_capabilities_that_the_dockerfile_explains(pod: dict[str, Any], dockerfile: str) -> None:
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert context["privileged"] is False and context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    added = set(context["capabilities"]["add"])
    explained = set(re.findall(r"\b[A-Z_]+\b", "".join(re.findall(r"^#   ([A-Z_, ]+)  ", dockerfile, re.MULTILINE))))
    assert added == explained == set(re.findall(r"--cap-add ([A-Z_]+)", dockerfile))
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_token_comes_from_a_secret_by_a_file(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    file = Path(arguments(container)["--token-file"])
    (mount,) = [mount for mount in container["volumeMounts"] if Path(mount["mountPath"]) == file.parent]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    assert volume["secret"] == {"secretName": "longhaul-sandbox-token", "defaultMode": 0o400} and mount["readOnly"]
    assert "env" not in container


def test_the_service_takes_the_pod_s_arguments(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    known = {option for parameter in serve.params for option in parameter.opts}
    flags = arguments(container)
    assert known >= set(flags) and flags["--host"] == "0.0.0.0"
    assert {port["containerPort"] for port in container["ports"]} == {int(flags["--port"])}


def test_pods_are_rolled_over_and_restarted_without_a_gap(manifests: dict[str, Any], pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    deployment = manifests["Deployment"]["spec"]
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert pod["restartPolicy"] == "Always"
    assert deployment["replicas"] > manifests["PodDisruptionBudget"]["spec"]["minAvailable"] > 0
    for name, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[name]["httpGet"] == {"path": path, "port": "http"}
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + ServiceConfig().drain_seconds + 5
    assert ServiceConfig().drain_seconds > ServiceConfig().maxima.wall_seconds
    assert ServiceConfig().drain_seconds > WAIT_SECONDS


def test_the_container_s_memory_holds_all_slots_and_the_queue(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    flags, config = arguments(container), ServiceConfig()
    slots, queue = int(flags["--slots"]), int(flags["--queue"])
    most = slots * (config.maxima.memory_mb + config.maxima.file_mb + 48) + (slots + queue) * config.max_body_mb
    assert most * MIB <= int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024 * MIB
    assert int(container["resources"]["requests"]["cpu"]) == slots
