mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name    = "longhaul"
  key_arn = "arn:aws:kms:us-east-1:123456789012:key/data"
}

run "makes_a_place_for_tokens_and_knows_none" {
  assert {
    condition     = aws_secretsmanager_secret.task.kms_key_id == var.key_arn && aws_secretsmanager_secret.task.recovery_window_in_days == 30
    error_message = "The secret must be encrypted by the tasks' key, and come back for a month."
  }
  assert {
    condition     = aws_secretsmanager_secret.task.name_prefix == "longhaul/task-" && output.task_secret_name == aws_secretsmanager_secret.task.name && output.task_secret_arn == aws_secretsmanager_secret.task.arn
    error_message = "Recipes name the secret."
  }
}
