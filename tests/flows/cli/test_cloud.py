"""What `longhaul cloud configure` writes and refuses, with terraform itself where it is installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli.cloud import REQUIRED, cloud

CONFIGURATION = {name: f"value-of-{name.lower()}" for name in REQUIRED}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty METAFLOW_HOME."""
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def configure(*options: str | Path) -> Result:
    return CliRunner().invoke(cloud, ["configure", *map(str, options)])


def settings_file(folder: Path, settings: object) -> Path:
    file = folder / "settings.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file


def test_metaflow_reads_what_was_written(tmp_path: Path, home: Path) -> None:
    settings = {**CONFIGURATION, "METAFLOW_KUBERNETES_NAMESPACE": "runs", "METAFLOW_DEFAULT_DATASTORE": "s3"}
    result = configure("--file", settings_file(tmp_path, settings), "--profile", "cluster")
    assert result.exit_code == 0, result.output
    assert "export METAFLOW_PROFILE=cluster" in result.output
    program = "from metaflow import metaflow_config as c; print(c.KUBERNETES_NAMESPACE, c.DEFAULT_DATASTORE)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METAFLOW_")}
    environment |= {"METAFLOW_HOME": str(home), "METAFLOW_PROFILE": "cluster"}
    said = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True, cwd=tmp_path)
    assert said.split() == ["runs", "s3"]


def test_another_profile_is_not_overwritten_unasked(tmp_path: Path, home: Path) -> None:
    there = home / "config_longhaul.json"
    home.mkdir()
    there.write_text('{"METAFLOW_SERVICE_HEADERS": "{}"}', encoding="utf-8")
    result = configure("--file", settings_file(tmp_path, CONFIGURATION))
    assert result.exit_code == 1
    assert "METAFLOW_SERVICE_HEADERS" in result.output and "--force" in result.output
    assert there.read_text(encoding="utf-8") == '{"METAFLOW_SERVICE_HEADERS": "{}"}'
    assert configure("--file", settings_file(tmp_path, CONFIGURATION), "--force").exit_code == 0
    assert json.loads(there.read_text(encoding="utf-8")) == CONFIGURATION


def test_the_same_again_changes_nothing(tmp_path: Path, home: Path) -> None:
    assert configure("--file", settings_file(tmp_path, CONFIGURATION)).exit_code == 0
    before = (home / "config_longhaul.json").stat()
    result = configure("--file", settings_file(tmp_path, CONFIGURATION))
    assert result.exit_code == 0 and "is up to date" in result.output
    assert (home / "config_longhaul.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_broken_profile_is_not_overwritten_unasked(tmp_path: Path, home: Path) -> None:
    home.mkdir()
    (home / "config_longhaul.json").write_text("{half", encoding="utf-8")
    result = configure("--file", settings_file(tmp_path, CONFIGURATION))
    assert result.exit_code == 1 and "not JSON" in result.output
    assert (home / "config_longhaul.json").read_text(encoding="utf-8") == "{half"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "expected an object"),
        ({**CONFIGURATION, "PATH": "/bin"}, "'PATH' is not a setting of Metaflow"),
        ({**CONFIGURATION, "METAFLOW_SERVICE_URL": 8080}, "METAFLOW_SERVICE_URL is 8080"),
        ({**CONFIGURATION, "METAFLOW_SERVICE_URL": ""}, "METAFLOW_SERVICE_URL is ''"),
        ({**CONFIGURATION, "METAFLOW_SERVICE_URL": "a\x1b[2J"}, "expected a line of text"),
        ({"METAFLOW_DEFAULT_DATASTORE": "s3"}, "lacks METAFLOW_DATASTORE_SYSROOT_S3"),
        ({"metaflow_config": {"value": CONFIGURATION}}, "terraform output -json metaflow_config"),
    ],
)
def test_nothing_is_written_of_what_metaflow_could_not_use(
    tmp_path: Path, home: Path, settings: object, said: str
) -> None:
    result = configure("--file", settings_file(tmp_path, settings))
    assert result.exit_code == 1 and said in result.output
    assert "\x1b[2J" not in result.output
    assert not home.exists()


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "cut.json").write_text('{"METAFLOW_SERVICE_URL": "htt', encoding="utf-8")
    result = configure("--file", tmp_path / "cut.json")
    assert result.exit_code == 1 and "is not JSON" in result.output
    assert configure("--file", tmp_path / "none.json").exit_code == 1
    assert not home.exists()


@pytest.mark.parametrize("profile", ["../elsewhere", "", ".hidden", "a/b"])
def test_a_profile_stays_in_metaflows_folder(tmp_path: Path, profile: str) -> None:
    result = configure("--file", settings_file(tmp_path, CONFIGURATION), "--profile", profile)
    assert result.exit_code == 1 and "--profile" in result.output


def test_a_home_that_cannot_be_written_is_reported(tmp_path: Path, home: Path) -> None:
    home.write_text("a file", encoding="utf-8")
    result = configure("--file", settings_file(tmp_path, CONFIGURATION))
    assert result.exit_code == 1 and "METAFLOW_HOME" in result.output


def test_two_sources_are_refused(tmp_path: Path) -> None:
    result = configure("--file", settings_file(tmp_path, CONFIGURATION), "--terraform", tmp_path)
    assert result.exit_code == 1 and "not both" in result.output


def test_without_terraform_it_tells_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = configure("--terraform", tmp_path)
    assert result.exit_code == 1 and "--file" in result.output
    assert configure("--terraform", tmp_path / "none").exit_code == 1


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on PATH")
def test_an_applied_stack_is_asked_itself(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", os.devnull)
    stack = tmp_path / "stack"
    stack.mkdir()
    refused = configure("--terraform", stack)
    assert refused.exit_code == 1 and "apply the stack first" in refused.output
    (stack / "main.tf").write_text(f'output "metaflow_config" {{\n  value = {json.dumps(CONFIGURATION)}\n}}\n')
    subprocess.run(["terraform", "apply", "-auto-approve", "-input=false"], cwd=stack, check=True, capture_output=True)
    assert configure("--terraform", stack).exit_code == 0
    assert json.loads((home / "config_longhaul.json").read_text(encoding="utf-8")) == CONFIGURATION
