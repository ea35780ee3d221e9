# FSx for Lustre, in the training nodes' zone: scratch that all nodes of a run see at once (compile caches, checkpoints
# between their uploads). What must last is in S3; losing this costs time and nothing else.

resource "aws_security_group" "this" {
  name        = "${var.name}-lustre"
  description = "Lustre between the cluster's nodes and the file system"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-lustre" }
}

locals {
  # https://docs.aws.amazon.com/fsx/latest/LustreGuide/limit-access-security-groups.html
  ports   = { lnet = [988, 988], peers = [1018, 1023] }
  sources = { cluster = var.client_security_group, servers = aws_security_group.this.id }
  rules = merge([for source, group in local.sources : {
    for ports, range in local.ports : "${source}-${ports}" => { group = group, from = range[0], to = range[1] }
  }]...)
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each = local.rules

  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value.group
  description                  = "Lustre, ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.from
  to_port                      = each.value.to
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each = local.rules

  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value.group
  description                  = "Lustre, ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.from
  to_port                      = each.value.to
}

resource "aws_fsx_lustre_file_system" "this" {
  deployment_type             = "PERSISTENT_2"
  file_system_type_version    = "2.15"
  storage_type                = "SSD"
  storage_capacity            = var.capacity_gib
  per_unit_storage_throughput = var.throughput
  data_compression_type       = "LZ4"
  kms_key_id                  = var.key_arn
  subnet_ids                  = [var.subnet]
  security_group_ids          = [aws_security_group.this.id]
  # Scratch: a copy of it would be copied every day and read never.
  automatic_backup_retention_days = 0
  tags                            = { Name = var.name }

  metadata_configuration {
    mode = "AUTOMATIC"
  }
}
