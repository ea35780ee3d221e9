output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnets" {
  description = "Subnets for nodes and pods, by zone."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
}

output "closed_subnets" {
  description = "Subnets without a route out of the VPC, by zone: for the database and the control plane's interfaces."
  value       = { for zone, subnet in aws_subnet.closed : zone => subnet.id }
}

output "s3_endpoint_id" {
  description = "The gateway endpoint of S3."
  value       = aws_vpc_endpoint.s3.id
}
