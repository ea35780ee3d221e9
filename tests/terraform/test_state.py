"""The state's backend, as bootstrap writes it, against a real S3 server: terraform's own client, lock file and all."""

from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from tests.terraform.scratch import Terraform

# A root that needs no provider: terraform_data is built in.
ROOT = """
terraform {
  backend "s3" {
    key = "test.tfstate"
  }
}

resource "terraform_data" "this" {
  input = var.input
}

variable "input" {
  type = string
}
"""

# What a server on loopback lacks: an account, and names of buckets in DNS.
ON_LOOPBACK = [
    "skip_credentials_validation=true",
    "skip_requesting_account_id=true",
    "skip_metadata_api_check=true",
    "use_path_style=true",
]


@pytest.fixture(scope="module")
def backend(apart: Terraform) -> str:
    """What bootstrap prints for the stacks, with a key's ARN in place of the simulated one."""
    apart.ready_to_apply("bootstrap")
    apart.run("bootstrap", "apply", "-auto-approve", "-no-color", "-var=region=us-east-1")
    printed = apart.run("bootstrap", "output", "-raw", "backend").stdout
    key = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-4321-8765-123456789012"
    return "\n".join(
        f'kms_key_id = "{key}"' if line.startswith("kms_key_id") else line for line in printed.splitlines()
    )


def test_state_is_kept_in_the_bucket_and_one_at_a_time(
    apart: Terraform, backend: str, s3_server: dict[str, str], tmp_path: Path
) -> None:
    assert "use_lockfile = true" in backend and "encrypt      = true" in backend
    (tmp_path / "main.tf").write_text(ROOT, encoding="utf-8")
    (tmp_path / "backend.hcl").write_text(backend, encoding="utf-8")
    client = boto3.client(
        "s3",
        endpoint_url=s3_server["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket = "longhaul-terraform-123456789012"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    root = str(tmp_path)
    options = ["-backend-config=backend.hcl", *(f"-backend-config={option}" for option in ON_LOOPBACK)]
    apart.run(root, "init", "-no-color", *options, env=s3_server)
    apart.run(root, "apply", "-auto-approve", "-no-color", "-var=input=one", env=s3_server)
    state = client.get_object(Bucket=bucket, Key="test.tfstate")
    assert b"terraform_data" in state["Body"].read()
    assert state["ServerSideEncryption"] == "aws:kms"

    # Somebody else is at it.
    client.put_object(
        Bucket=bucket, Key="test.tfstate.tflock", Body=b'{"ID": "somebody", "Operation": "OperationTypeApply"}'
    )
    refused = apart.run(root, "apply", "-auto-approve", "-no-color", "-var=input=two", ok=False, env=s3_server)
    assert refused.returncode != 0 and "Error acquiring the state lock" in refused.stderr
    client.delete_object(Bucket=bucket, Key="test.tfstate.tflock")

    apart.run(root, "apply", "-auto-approve", "-no-color", "-var=input=two", env=s3_server)
    names = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert names == ["test.tfstate"], "the lock must be gone when nobody is at it"
    versions = client.list_object_versions(Bucket=bucket, Prefix="test.tfstate")["Versions"]
    assert sum(version["Key"] == "test.tfstate" for version in versions) >= 2, "the state before must be there"
