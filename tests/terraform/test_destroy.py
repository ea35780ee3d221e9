"""terraform/destroy.sh on two roots that need no provider: what it does where a bucket is not empty, and after that."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.terraform.scratch import SOURCE, Terraform

pytestmark = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on PATH")

CLOUD = """
variable "deletion_protection" {{
  default = true
}}

resource "terraform_data" "network" {{
  input = var.deletion_protection
}}

resource "terraform_data" "bucket" {{
  input = "s3://artifacts/store"

  provisioner "local-exec" {{
    when    = destroy
    command = "test -e {empty}"
  }}
}}

output "store" {{
  value = terraform_data.bucket.output
}}

output "protected" {{
  value = "bucket artifacts: stops the destroy while anything is in it"
}}
"""


def test_a_destroy_that_stopped_half_way_is_started_again_and_makes_nothing(tmp_path: Path) -> None:
    scratch, empty = Terraform(tmp_path), tmp_path / "empty"
    roots = {"stacks/platform": 'resource "terraform_data" "chart" {}', "stacks/cloud": CLOUD.format(empty=empty)}
    for root, text in roots.items():
        (tmp_path / root).mkdir(parents=True)
        (tmp_path / root / "main.tf").write_text(text, encoding="utf-8")
        scratch.run(root, "init", "-no-color")
        scratch.run(root, "apply", "-auto-approve", "-no-color")
    script = shutil.copy(SOURCE / "destroy.sh", tmp_path)
    answers = {"TF_CLI_ARGS_apply": "-auto-approve -no-color", "TF_CLI_ARGS_destroy": "-auto-approve -no-color"}

    def destroy() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **answers, "CHECKPOINT_DISABLE": "1"}
        return subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False)

    stopped = destroy()
    assert stopped.returncode == 1 and "--bucket artifacts " in stopped.stderr
    assert "bucket artifacts: stops the destroy" in stopped.stdout and "bucket artifacts: stops" in stopped.stderr
    again = destroy()
    assert again.returncode == 1 and "Creating" not in again.stdout, "what was gone was made once more"
    assert "--bucket BUCKET " in again.stderr, "its name went with the outputs"
    empty.touch()
    last = destroy()
    assert last.returncode == 0 and "Left: the database's last snapshot" in last.stdout
    assert scratch.run("stacks/cloud", "state", "list").stdout == ""
