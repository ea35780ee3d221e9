"""Scratch copies of terraform/, each initialised once for all tests."""

import json
import shutil
from pathlib import Path

import pytest

from tests.terraform.scratch import Terraform, copy_to


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform in a copy that all tests share."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not on PATH")
    folder = tmp_path_factory.mktemp("terraform") / "terraform"
    return copy_to(folder)


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory, terraform: Terraform) -> Terraform:
    """Another copy, for tests that plan and apply: what they leave must not reach validation."""
    folder = tmp_path_factory.mktemp("apart") / "terraform"
    return copy_to(folder)


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a size's file leaves to its user."""
    file = tmp_path_factory.mktemp("mine") / "mine.tfvars.json"
    settings = {
        "admins": ["arn:aws:iam::123456789012:role/admin"],
        "budget": {"monthly_usd": 2000, "emails": ["you@example.com"]},
    }
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file
