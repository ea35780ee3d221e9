# Ways to services of AWS that do not pass the NAT gateway: cheaper for S3, which carries weights and images, and the only
# way that credentials of another account are refused on.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  region    = data.aws_region.this.region
  partition = data.aws_partition.this.partition

  s3_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "PrincipalsOfThisAccount"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:*"
        Resource  = "*"
        Condition = { StringEquals = { "aws:PrincipalAccount" = data.aws_caller_identity.this.account_id } }
      },
      {
        # Layers of images lie in buckets of others, and are read as nobody or as the registry: ECR's, registry.k8s.io's and
        # quay.io's (both send nodes in AWS to S3), and packages of Amazon Linux.
        Sid       = "ImagesAndPackages"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:GetObject"
        Resource = [
          "arn:${local.partition}:s3:::prod-${local.region}-starport-layer-bucket/*",
          "arn:${local.partition}:s3:::prod-registry-k8s-io-*/*",
          "arn:${local.partition}:s3:::quayio-production-s3/*",
          "arn:${local.partition}:s3:::al2023-repos-${local.region}-*/*",
        ]
      },
    ]
  }
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]
  policy            = jsonencode(local.s3_policy)
  tags              = { Name = "${var.name}-s3" }
}

resource "aws_security_group" "endpoints" {
  count = length(var.interface_endpoints) > 0 ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "HTTPS from within the VPC to endpoints of AWS services"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = length(var.interface_endpoints) > 0 ? 1 : 0

  security_group_id = aws_security_group.endpoints[0].id
  description       = "HTTPS from the VPC"
  cidr_ipv4         = aws_vpc.this.cidr_block
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_endpoint" "service" {
  for_each = var.interface_endpoints

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.closed : subnet.id]
  security_group_ids  = [aws_security_group.endpoints[0].id]
  tags                = { Name = "${var.name}-${each.key}" }
}
