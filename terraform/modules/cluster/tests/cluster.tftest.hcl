mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                  = "longhaul"
  kubernetes_version    = "1.35"
  control_plane_subnets = ["subnet-a", "subnet-b"]
  admins                = ["arn:aws:iam::123456789012:role/admin"]
  developers            = ["arn:aws:iam::123456789012:role/researcher"]
  key_arn               = "arn:aws:kms:us-east-1:123456789012:key/cluster"
}

run "is_private_encrypted_and_logged" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The API must be reached from within the VPC alone unless addresses are given."
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == var.key_arn && contains(aws_eks_cluster.this.encryption_config[0].resources, "secrets")
    error_message = "Kubernetes secrets must be encrypted by our key."
  }
  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5 && aws_cloudwatch_log_group.control_plane.kms_key_id == var.key_arn
    error_message = "The control plane must log everything, encrypted."
  }
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "Rights come by access entries alone."
  }
  assert {
    condition     = aws_eks_access_policy_association.admin["arn:aws:iam::123456789012:role/admin"].access_scope[0].type == "cluster"
    error_message = "Administrators may do everything."
  }
  assert {
    condition     = contains(aws_eks_access_entry.developer["arn:aws:iam::123456789012:role/researcher"].kubernetes_groups, output.developer_group)
    error_message = "Developers are a Kubernetes group."
  }
  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "NetworkPolicies must be enforced."
  }
  assert {
    condition     = !contains(keys(aws_iam_role_policy_attachment.node), "AmazonEKS_CNI_Policy")
    error_message = "The node's role must not do what Pod Identity gives to the network plug-in."
  }
  assert {
    condition     = output.name == "longhaul" && output.arn != "" && output.endpoint != "" && output.certificate_authority != "" && output.node_role_arn != "" && output.security_group != null
    error_message = "Other modules build on these."
  }
}

run "opens_the_api_to_given_addresses_only" {
  command = plan
  variables {
    api_public_cidrs = ["203.0.113.0/24"]
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    error_message = "Only the given addresses may reach the API."
  }
}

run "refuses_the_whole_internet_nobody_and_a_version_out_of_support" {
  command = plan
  variables {
    api_public_cidrs   = ["0.0.0.0/0"]
    admins             = []
    kubernetes_version = "1.29"
  }
  expect_failures = [var.api_public_cidrs, var.admins, var.kubernetes_version]
}

run "refuses_one_person_twice" {
  command = plan
  variables {
    developers = ["arn:aws:iam::123456789012:role/admin"]
  }
  expect_failures = [var.developers]
}
