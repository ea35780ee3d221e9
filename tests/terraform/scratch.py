"""Terraform in a scratch copy of terraform/, so that no provider, lock file or state comes to lie in the repository.

Where `terraform init` can reach no registry, TF_CLI_ARGS_init=-plugin-dir=FOLDER names providers. Those are taken for
stand-ins that simulate every resource: applying is tried with them alone, and never with real ones.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "terraform"
INIT_ARGUMENTS = "TF_CLI_ARGS_init"
"""What Terraform adds to each `terraform init`; its name is in small letters."""

NOT_TO_BE_HAD = ("Failed to query available provider packages", "could not connect to", "Failed to install provider")


class Terraform:
    """Runs terraform in a copy of terraform/; a root is initialised before its first command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ready: set[str] = set()

    def run(
        self, root: str, *arguments: str, ok: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command in a root. With `ok`, its failure fails the test with what it said."""
        done = subprocess.run(
            ["terraform", f"-chdir={self.folder / root}", *arguments],
            env={**os.environ, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1", **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if ok and done.returncode != 0:
            pytest.fail(f"terraform {' '.join(arguments)} in {root}:\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done

    def ready(self, root: str) -> None:
        """Initialise a root without its backend; skips where providers are not to be had."""
        if root in self._ready:
            return
        done = self.run(root, "init", "-no-color", "-backend=false", ok=False)
        said = done.stdout + done.stderr
        if done.returncode != 0 and any(reason in said for reason in NOT_TO_BE_HAD):
            pytest.skip("no provider registry is in reach, and TF_CLI_ARGS_init names no -plugin-dir with providers")
        assert done.returncode == 0, said
        self._ready.add(root)

    def ready_to_apply(self, root: str) -> None:
        """Initialise a root with its state in a file; skips where providers are not stand-ins."""
        if "-plugin-dir" not in os.environ.get(INIT_ARGUMENTS, ""):
            pytest.skip("TF_CLI_ARGS_init names no -plugin-dir: real providers would ask for an account")
        (self.folder / root / "override.tf").write_text('terraform {\n  backend "local" {}\n}\n', encoding="utf-8")
        self.run(root, "init", "-no-color", "-reconfigure")

    def plan(self, root: str, *arguments: str) -> dict[str, Any]:
        """A plan as JSON."""
        file = self._planned(root)
        self.run(root, "plan", "-no-color", f"-out={file}", *arguments)
        return json.loads(self.run(root, "show", "-json", str(file)).stdout)

    def apply(self, root: str) -> None:
        """Apply the last plan."""
        self.run(root, "apply", "-no-color", str(self._planned(root)))

    def _planned(self, root: str) -> Path:
        return self.folder / root / "test.tfplan"


def copy_to(folder: Path) -> Terraform:
    """A copy of terraform/ without what a person's own use of it left there."""
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.auto.tfvars.json"))
    return Terraform(folder)
