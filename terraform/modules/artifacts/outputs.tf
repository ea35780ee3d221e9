output "bucket" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.this.arn
}

output "prefix" {
  description = "What all of the project's keys begin with."
  value       = var.prefix
}

output "store" {
  description = "The recipe's store."
  value       = "s3://${aws_s3_bucket.this.bucket}/${var.prefix}/store"
}

output "metaflow_root" {
  description = "Where Metaflow keeps artifacts."
  value       = "s3://${aws_s3_bucket.this.bucket}/${var.prefix}/metaflow"
}
