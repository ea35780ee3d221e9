mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name        = "longhaul/data"
  description = "Artifacts"
}

run "rotates_and_is_for_this_account_alone" {
  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "A key must rotate, and a month must pass before it is gone."
  }
  assert {
    condition     = jsondecode(aws_kms_key.this.policy).Statement[0].Principal.AWS == "arn:aws:iam::123456789012:root" && length(jsondecode(aws_kms_key.this.policy).Statement) == 1
    error_message = "Who may use the key is for IAM of this account to say."
  }
  assert {
    condition     = output.arn == aws_kms_key.this.arn && aws_kms_alias.this.name == "alias/longhaul/data"
    error_message = "The key must be found by its name."
  }
}

run "lets_log_groups_of_this_account_use_it" {
  command = plan
  variables {
    for_logs = true
  }
  assert {
    condition     = jsondecode(aws_kms_key.this.policy).Statement[1].Condition.ArnLike["kms:EncryptionContext:aws:logs:arn"] == "arn:aws:logs:us-east-1:123456789012:log-group:*"
    error_message = "CloudWatch Logs may use the key for this account's groups only."
  }
}

run "refuses_a_name_of_aws" {
  command = plan
  variables {
    name = "aws/s3"
  }
  expect_failures = [var.name]
}
