output "repositories" {
  description = "Addresses of the repositories by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "registry" {
  description = "The registry that holds them."
  value       = split("/", values(aws_ecr_repository.this)[0].repository_url)[0]
}
