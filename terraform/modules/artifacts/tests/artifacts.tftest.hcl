mock_provider "aws" {
  source = "../../mocks"
}

variables {
  bucket  = "longhaul-artifacts-123456789012"
  key_arn = "arn:aws:kms:us-east-1:123456789012:key/data"
}

run "keeps_every_version_encrypted_and_to_itself" {
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "What is overwritten must be there to bring back."
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == var.key_arn
    error_message = "Objects must be encrypted by the project's key."
  }
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "Nothing of the bucket may become public."
  }
  assert {
    condition     = !aws_s3_bucket.this.force_destroy
    error_message = "A bucket with models in it must not be destroyed by a plan."
  }

  assert {
    condition = anytrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      statement.Effect == "Deny" && statement.Action == "s3:*" && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
    ])
    error_message = "Requests without TLS must be refused."
  }
  assert {
    condition = anytrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      statement.Effect == "Deny" && try(statement.Condition.StringNotEquals["s3:x-amz-server-side-encryption-aws-kms-key-id"], "") == var.key_arn
      && try(statement.Condition.Null["s3:x-amz-server-side-encryption-aws-kms-key-id"], "") == "false"
    ])
    error_message = "Another key must be refused, and no key at all must not."
  }

  assert {
    condition     = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status == "Enabled" && try(rule.abort_incomplete_multipart_upload[0].days_after_initiation, 0) == 7])
    error_message = "Multipart uploads that were not finished must be dropped after a week."
  }
  assert {
    condition     = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status == "Enabled" && try(rule.noncurrent_version_expiration[0].noncurrent_days, 0) == 30])
    error_message = "Old versions must go after a month."
  }
  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : try(rule.expiration[0].days, 0) == 0])
    error_message = "No rule may delete what is current."
  }

  assert {
    condition     = output.store == "s3://longhaul-artifacts-123456789012/longhaul/store" && output.metaflow_root == "s3://longhaul-artifacts-123456789012/longhaul/metaflow"
    error_message = "Both must lie below the one prefix."
  }
  assert {
    condition     = output.bucket == var.bucket && output.prefix == "longhaul" && output.arn != ""
    error_message = "Other modules build on these."
  }
}

run "refuses_a_prefix_that_opens_the_bucket_and_a_name_with_dots" {
  command = plan
  variables {
    prefix = "*"
    bucket = "longhaul.artifacts"
  }
  expect_failures = [var.prefix, var.bucket]
}
