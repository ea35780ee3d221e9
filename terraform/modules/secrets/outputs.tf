output "task_secret_arn" {
  description = "The secret that tasks may read."
  value       = aws_secretsmanager_secret.task.arn
}

output "task_secret_name" {
  description = "Its name, as Metaflow's @secrets takes it."
  value       = aws_secretsmanager_secret.task.name
}
