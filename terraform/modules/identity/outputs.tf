output "roles" {
  description = "The roles' ARNs, by what they are for."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "policies" {
  description = "What each role may do."
  value       = { for name, identity in local.identities : name => identity.policy }
}

output "service_accounts" {
  description = "Whose roles they are."
  value       = local.who
  depends_on  = [aws_eks_pod_identity_association.this]
}
