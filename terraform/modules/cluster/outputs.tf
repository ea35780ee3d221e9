output "name" {
  description = "The cluster's name, once it can be joined."
  value       = aws_eks_cluster.this.name
  depends_on  = [aws_eks_addon.before_nodes]
}

output "arn" {
  description = "The cluster's ARN."
  value       = aws_eks_cluster.this.arn
}

output "endpoint" {
  description = "The API's address."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "The API's certificate authority, base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "security_group" {
  description = "EKS's own security group of the control plane and its nodes."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_role_arn" {
  description = "The role that nodes run as."
  value       = aws_iam_role.node.arn
  depends_on  = [aws_iam_role_policy_attachment.node]
}

output "developer_group" {
  description = "The Kubernetes group that developers are in."
  value       = var.developer_group
}
