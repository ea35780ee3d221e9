"""LONGHAUL_HOME and LONGHAUL_LINEAGE_INDEX move what they name, for every command and from any folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.environment import PROCESS_ENVIRONMENT
from tests.flows.made_up_chain import chain, finish

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run in its store."""
    home = tmp_path_factory.mktemp("home")
    finish(chain(home / "store"), home / "made")
    return home


def longhaul(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env={**PROCESS_ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_store_is_in_the_home_from_any_folder(home: Path, tmp_path: Path) -> None:
    done = longhaul("runs", "--json", folder=tmp_path, LONGHAUL_HOME=str(home))
    assert [run["run"] for run in json.loads(done.stdout)["runs"]] == ["run-1"]
    assert not list(tmp_path.iterdir())


def test_a_plan_reads_the_store_in_the_home(home: Path, tmp_path: Path) -> None:
    recipe = ROOT / "configs" / "smoke.yaml"
    settings = ("--set", "tracking.mode=disabled", "--until", "import", "--json")
    done = longhaul("plan", "--config", str(recipe), *settings, folder=ROOT, LONGHAUL_HOME=str(home))
    stages = json.loads(done.stdout)["stages"]
    assert {stage["action"] for stage in stages} == {"reuse"}, stages


@pytest.mark.parametrize(
    "command",
    [
        ("runs",),
        ("show", "run-1"),
        ("diff", "run-1", "run-1"),
        ("plan", "--config", str(ROOT / "configs/smoke.yaml"), "--force"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_uses_the_index_that_the_environment_names(
    command: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.sqlite"
    done = longhaul(*command, folder=ROOT, LONGHAUL_HOME=str(home), LONGHAUL_LINEAGE_INDEX=f"sqlite:///{index}")
    assert done.returncode == 0, done.stderr
    assert index.exists()


def test_a_plan_goes_without_an_index_that_cannot_be_used(home: Path, tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").mkdir()
    broken = f"sqlite:///{tmp_path / 'index.sqlite'}"
    command = ("plan", "--config", str(ROOT / "configs" / "smoke.yaml"), "--force", "--json")
    done = longhaul(*command, folder=ROOT, LONGHAUL_HOME=str(home), LONGHAUL_LINEAGE_INDEX=broken)
    assert json.loads(done.stdout)["stages"]
    assert "cannot be used" in done.stderr and "without earlier runs" in done.stderr
