output "host" {
  description = "The instance's host name."
  value       = aws_db_instance.this.address
}

output "name" {
  description = "The database's name."
  value       = aws_db_instance.this.db_name
}

output "user" {
  description = "The user that owns it."
  value       = aws_db_instance.this.username
}

output "secret_arn" {
  description = "The secret that RDS keeps the user's password in."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "identifier" {
  description = "The instance's name."
  value       = aws_db_instance.this.identifier
}

output "final_snapshot" {
  description = "The snapshot that its deletion leaves."
  value       = aws_db_instance.this.final_snapshot_identifier
}
