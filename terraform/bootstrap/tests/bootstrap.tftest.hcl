mock_provider "aws" {
  source = "../mocks"
}

variables {
  region = "us-east-1"
}

run "keeps_state_versioned_encrypted_and_to_itself" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.bucket == "longhaul-terraform-123456789012"
    error_message = "The bucket is named after installation and account."
  }
  assert {
    condition     = aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "A state that was overwritten must be there to bring back."
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.state.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    error_message = "State holds addresses and names of everything: it must be encrypted."
  }
  assert {
    condition     = aws_s3_bucket_public_access_block.state.restrict_public_buckets && aws_s3_bucket_public_access_block.state.block_public_policy
    error_message = "State must not become public."
  }
}

run "refuses_what_is_no_region" {
  command = plan
  variables {
    region = "virginia"
  }
  expect_failures = [var.region]
}
