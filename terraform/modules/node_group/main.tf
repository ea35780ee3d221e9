# A managed node group, CPU or GPU: on demand, spot, in a capacity reservation or in a capacity block.
#
# It starts with var.min_size nodes, by default none, and the cluster's autoscaler adds nodes while pods wait for them.

locals {
  gpu = local.instance.gpus > 0
  # A reservation's place was fixed when it was made: instances cannot be put into a placement group beside it.
  reserved  = contains(["reservation", "capacity-block"], var.capacity)
  block     = var.capacity == "capacity-block"
  placed    = var.efa && !local.reserved
  full_name = "${var.cluster_name}-${var.name}"

  labels = merge(
    { "longhaul/pool" = var.pool, "longhaul/capacity" = var.capacity },
    # By the second the autoscaler knows that a node which has just come will have GPUs: it would start more meanwhile.
    local.gpu ? { "nvidia.com/gpu.present" = "true", "k8s.amazonaws.com/accelerator" = "nvidia" } : {},
    var.efa ? { "longhaul/efa" = "true" } : {},
  )

  # Instance store as one volume for images and scratch: data sets and checkpoints pass it. GPU types listed here all have
  # it. With EFA, also the huge pages that libfabric takes for each interface: set before the kubelet counts them.
  # https://docs.aws.amazon.com/eks/latest/userguide/node-efa.html
  user_data = <<-MIME
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary="//"

    --//
    Content-Type: application/node.eks.aws

    apiVersion: node.eks.aws/v1alpha1
    kind: NodeConfig
    spec:
      instance:
        localStorage:
          strategy: RAID0
    %{if var.efa}
    --//
    Content-Type: text/x-shellscript; charset="us-ascii"

    #!/bin/sh
    echo vm.nr_hugepages=${local.huge_pages} >/etc/sysctl.d/60-efa.conf
    sysctl -p /etc/sysctl.d/60-efa.conf
    %{endif}
    --//--
  MIME

  # Pages of 2 MiB.
  huge_pages = 5128

  # Disk that pods may ask for on any type of the group; the kubelet keeps a part for itself.
  scratch_gib = floor(0.85 * (local.gpu ? min([for type in var.instance_types : local.instances[type].store_gib]...) : var.disk_gib))
}

# EFA passes security groups only where both directions name the group itself; 0.0.0.0/0 does not do.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-start.html
resource "aws_security_group" "efa" {
  count = var.efa ? 1 : 0

  name        = "${local.full_name}-efa"
  description = "EFA between the nodes of ${local.full_name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${local.full_name}-efa" }
}

resource "aws_vpc_security_group_ingress_rule" "efa" {
  count = var.efa ? 1 : 0

  security_group_id            = aws_security_group.efa[0].id
  referenced_security_group_id = aws_security_group.efa[0].id
  description                  = "All from nodes of this group"
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "efa" {
  count = var.efa ? 1 : 0

  security_group_id            = aws_security_group.efa[0].id
  referenced_security_group_id = aws_security_group.efa[0].id
  description                  = "All to nodes of this group"
  ip_protocol                  = "-1"
}

resource "aws_placement_group" "this" {
  count = local.placed ? 1 : 0

  name     = local.full_name
  strategy = "cluster"
}

resource "aws_launch_template" "this" {
  # EKS wants the type of a capacity block here, any other's in the node group, and none in both.
  # https://docs.aws.amazon.com/eks/latest/userguide/capacity-blocks-mng.html
  instance_type = local.block ? var.instance_types[0] : null

  name                   = local.full_name
  update_default_version = true
  ebs_optimized          = true
  user_data              = local.gpu ? base64encode(local.user_data) : null

  # With interfaces given, security groups belong to each of them.
  vpc_security_group_ids = var.efa ? null : [var.cluster_security_group]

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # An answer that may take one hop only does not reach a pod: what runs in one never becomes the node.
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  dynamic "network_interfaces" {
    for_each = var.efa ? local.interfaces : []

    content {
      network_card_index          = network_interfaces.value.card
      device_index                = network_interfaces.value.device
      interface_type              = network_interfaces.value.type
      associate_public_ip_address = false
      delete_on_termination       = true
      security_groups             = [var.cluster_security_group, aws_security_group.efa[0].id]
    }
  }

  dynamic "placement" {
    for_each = aws_placement_group.this

    content {
      group_name = placement.value.name
    }
  }

  dynamic "capacity_reservation_specification" {
    for_each = local.reserved ? [var.reservation_id] : []

    content {
      capacity_reservation_target {
        capacity_reservation_id = capacity_reservation_specification.value
      }
    }
  }

  dynamic "instance_market_options" {
    for_each = local.block ? ["capacity-block"] : []

    content {
      market_type = instance_market_options.value
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = local.full_name })
    }
  }
}

resource "aws_eks_node_group" "this" {
  cluster_name    = var.cluster_name
  node_group_name = var.name
  node_role_arn   = var.node_role_arn
  subnet_ids      = values(var.subnets)
  instance_types  = local.block ? null : var.instance_types
  ami_type        = local.gpu ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"
  capacity_type = lookup(
    { spot = "SPOT", "capacity-block" = "CAPACITY_BLOCK" }, var.capacity, "ON_DEMAND",
  )
  labels = local.labels

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  scaling_config {
    min_size     = var.min_size
    max_size     = var.max_size
    desired_size = var.min_size
  }

  # Pods that need no GPU would keep a dear node from being scaled away.
  dynamic "taint" {
    for_each = local.gpu ? ["present"] : []

    content {
      key    = "nvidia.com/gpu"
      value  = taint.value
      effect = "NO_SCHEDULE"
    }
  }

  update_config {
    max_unavailable = 1
  }

  node_repair_config {
    enabled = true
  }

  lifecycle {
    # From here on the autoscaler says how many nodes there are.
    ignore_changes = [scaling_config[0].desired_size]
  }
}

# What a node of an empty group would have, where the autoscaler cannot tell from the instance type. Every pod of a stage
# asks for disk: without that line no empty group would ever get a node.
resource "aws_autoscaling_group_tag" "resources" {
  for_each = merge(
    { "ephemeral-storage" = "${local.scratch_gib}Gi" },
    var.efa ? {
      "vpc.amazonaws.com/efa" = tostring(local.instance.efa)
      "hugepages-2Mi"         = "${2 * local.huge_pages}Mi"
    } : {},
  )

  autoscaling_group_name = aws_eks_node_group.this.resources[0].autoscaling_groups[0].name

  tag {
    key                 = "k8s.io/cluster-autoscaler/node-template/resources/${each.key}"
    value               = each.value
    propagate_at_launch = false
  }
}
