mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                  = "longhaul-metaflow"
  vpc_id                = "vpc-1"
  subnets               = ["subnet-a", "subnet-b"]
  client_security_group = "sg-cluster"
  key_arn               = "arn:aws:kms:us-east-1:123456789012:key/database"
}

run "is_private_encrypted_and_keeps_its_password_to_itself" {
  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == var.key_arn
    error_message = "Storage must be encrypted by our key."
  }
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null && aws_db_instance.this.master_user_secret_kms_key_id == var.key_arn
    error_message = "RDS makes and keeps the password: it must be in no state."
  }
  assert {
    condition     = !aws_db_instance.this.publicly_accessible && aws_vpc_security_group_ingress_rule.cluster.referenced_security_group_id == "sg-cluster"
    error_message = "Only the cluster may connect."
  }
  assert {
    condition     = anytrue([for parameter in aws_db_parameter_group.this.parameter : parameter.name == "rds.force_ssl" && parameter.value == "1"])
    error_message = "Connections without TLS must be refused."
  }
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period == 14
    error_message = "What ran must not be lost by a plan."
  }
  assert {
    condition     = aws_db_parameter_group.this.family == "postgres17"
    error_message = "The parameters must be those of the engine's version."
  }
  assert {
    condition     = aws_secretsmanager_secret_rotation.master.secret_id == output.secret_arn && aws_secretsmanager_secret_rotation.master.rotation_rules[0].automatically_after_days == 30
    error_message = "The password must change every month."
  }
  assert {
    condition     = output.host != "" && output.name == "metaflow" && output.user == "metaflow"
    error_message = "The service needs these to connect."
  }
}

run "refuses_one_subnet_and_to_be_without_backups" {
  command = plan
  variables {
    subnets     = ["subnet-a"]
    backup_days = 0
  }
  expect_failures = [var.subnets, var.backup_days]
}
