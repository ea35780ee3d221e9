mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                  = "longhaul-scratch"
  vpc_id                = "vpc-1"
  subnet                = "subnet-a"
  client_security_group = "sg-cluster"
  key_arn               = "arn:aws:kms:us-east-1:123456789012:key/data"
}

run "is_encrypted_and_reached_by_the_cluster_alone" {
  assert {
    condition     = aws_fsx_lustre_file_system.this.kms_key_id == var.key_arn && aws_fsx_lustre_file_system.this.deployment_type == "PERSISTENT_2"
    error_message = "The file system must be encrypted by our key."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.this : contains(["sg-cluster", aws_security_group.this.id], rule.referenced_security_group_id)]) && length(aws_vpc_security_group_ingress_rule.this) == 4
    error_message = "Only the cluster and the file system's own servers may speak Lustre to it."
  }
  assert {
    condition     = output.file_system.gib == 4800 && output.file_system.mount_name != ""
    error_message = "A volume needs these."
  }
}

run "refuses_a_size_that_is_not_sold" {
  command = plan
  variables {
    capacity_gib = 1000
  }
  expect_failures = [var.capacity_gib]
}
