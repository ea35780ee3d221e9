# terraform test; no cloud is asked.
mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                   = "train"
  pool                   = "train"
  cluster_name           = "longhaul"
  cluster_security_group = "sg-cluster"
  node_role_arn          = "arn:aws:iam::123456789012:role/node"
  vpc_id                 = "vpc-1"
  subnets                = { "use1-az4" = "subnet-a" }
  instance_types         = ["p5.48xlarge"]
  max_size               = 4
}

run "scales_to_zero_behind_imdsv2_on_encrypted_disks" {
  assert {
    condition     = aws_eks_node_group.this.scaling_config[0].min_size == 0
    error_message = "A group must be able to have no node."
  }
  assert {
    condition     = aws_eks_node_group.this.scaling_config[0].desired_size == 0
    error_message = "A new group must cost nothing."
  }
  assert {
    condition     = aws_eks_node_group.this.scaling_config[0].max_size == 4
    error_message = "max_size must bound the group."
  }
  assert {
    condition     = anytrue([for taint in aws_eks_node_group.this.taint : taint.key == "nvidia.com/gpu" && taint.effect == "NO_SCHEDULE"])
    error_message = "Pods without a GPU must not keep a GPU node from being scaled away."
  }

  assert {
    condition     = aws_autoscaling_group_tag.resources["ephemeral-storage"].tag[0].value == "24318Gi"
    error_message = "Every pod asks for disk: the autoscaler must know that an empty group's node has some, or it starts none."
  }
  assert {
    condition     = contains(keys(aws_eks_node_group.this.labels), "k8s.amazonaws.com/accelerator")
    error_message = "Without this label the autoscaler starts more nodes while the first one's GPUs are not yet announced."
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv1 would give the node's role to anyone who can make it fetch a URL."
  }
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "With more hops, pods reach the node's role."
  }

  assert {
    condition     = aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "Root volumes must be encrypted."
  }

  assert {
    condition     = length(aws_launch_template.this.network_interfaces) == 0 && contains(aws_launch_template.this.vpc_security_group_ids, "sg-cluster")
    error_message = "Without efa, the launch template names security groups and no interfaces."
  }
  assert {
    condition     = length(aws_placement_group.this) == 0 && output.pool.efa == 0
    error_message = "A placement group is for EFA only."
  }

  # The table itself; how a number becomes interfaces is looked at below.
  assert {
    condition = { for type, instance in local.instances : type => instance.efa } == {
      "g5.12xlarge"   = 1, "g5.48xlarge" = 1, "g6.12xlarge" = 1, "g6.48xlarge" = 1
      "g6e.12xlarge"  = 1, "g6e.24xlarge" = 2, "g6e.48xlarge" = 4, "g7e.24xlarge" = 2, "g7e.48xlarge" = 4
      "p4d.24xlarge"  = 4, "p4de.24xlarge" = 4, "p5.4xlarge" = 1, "p5.48xlarge" = 32, "p5e.48xlarge" = 32
      "p5en.48xlarge" = 16, "p6-b200.48xlarge" = 8, "p6-b300.48xlarge" = 16
    }
    error_message = "Each type has as many EFA interfaces as AWS says."
  }
}

run "gives_p5_32_efa_interfaces_close_together" {
  variables {
    efa = true
  }
  assert {
    condition     = length([for i in aws_launch_template.this.network_interfaces : i if i.interface_type == "efa-only"]) == 32
    error_message = "p5.48xlarge has 32 EFA interfaces."
  }
  assert {
    condition     = aws_launch_template.this.network_interfaces[0].interface_type == "interface" && aws_launch_template.this.network_interfaces[0].device_index == 0
    error_message = "The first interface is for IP: one for EFA alone cannot be the primary one."
  }
  assert {
    condition     = [for i in aws_launch_template.this.network_interfaces : i.device_index if i.network_card_index == 0] == [0, 1]
    error_message = "Card 0 has the IP interface as device 0 and EFA as device 1."
  }
  assert {
    condition     = alltrue([for i in aws_launch_template.this.network_interfaces : i.device_index == 0 if i.network_card_index > 0])
    error_message = "On every further card EFA alone is device 0."
  }
  assert {
    condition     = length(distinct([for i in aws_launch_template.this.network_interfaces : i.network_card_index])) == 32
    error_message = "Each of the 32 cards has one."
  }
  assert {
    condition     = aws_launch_template.this.vpc_security_group_ids == null && alltrue([for i in aws_launch_template.this.network_interfaces : length(i.security_groups) == 2])
    error_message = "With interfaces given, EC2 wants security groups on each of them and nowhere else."
  }
  assert {
    condition     = aws_autoscaling_group_tag.resources["vpc.amazonaws.com/efa"].tag[0].value == "32" && aws_autoscaling_group_tag.resources["hugepages-2Mi"].tag[0].value == "10256Mi"
    error_message = "The autoscaler must know what an empty group's node would have, or it starts none for pods that ask for it."
  }
  assert {
    condition     = strcontains(base64decode(aws_launch_template.this.user_data), "vm.nr_hugepages=5128")
    error_message = "EFA takes huge pages, and pods that ask for them."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.efa[0].referenced_security_group_id == aws_security_group.efa[0].id && aws_vpc_security_group_ingress_rule.efa[0].ip_protocol == "-1"
    error_message = "EFA needs everything from the group itself."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.efa[0].referenced_security_group_id == aws_security_group.efa[0].id && aws_vpc_security_group_egress_rule.efa[0].ip_protocol == "-1"
    error_message = "EFA needs everything to the group itself: 0.0.0.0/0 does not let it out."
  }

  assert {
    condition     = aws_placement_group.this[0].strategy == "cluster" && length(aws_launch_template.this.placement) == 1
    error_message = "EFA nodes on demand belong in a cluster placement group."
  }
}

run "keeps_efa_off_the_first_card_of_p6_b300" {
  command = plan
  variables {
    efa            = true
    instance_types = ["p6-b300.48xlarge"]
  }
  assert {
    condition     = output.pool.efa == 16 && [for i in aws_launch_template.this.network_interfaces : i.interface_type if i.network_card_index == 0] == ["interface"]
    error_message = "Card 0 of p6-b300.48xlarge takes no EFA; its 16 are on cards 1 to 16."
  }
}

run "starts_in_a_capacity_block" {
  command = plan
  variables {
    efa            = true
    capacity       = "capacity-block"
    reservation_id = "cr-0123456789abcdef0"
  }
  assert {
    condition     = aws_eks_node_group.this.capacity_type == "CAPACITY_BLOCK" && aws_launch_template.this.instance_market_options[0].market_type == "capacity-block"
    error_message = "Group and launch template must both say capacity block."
  }
  assert {
    condition     = aws_launch_template.this.instance_type == "p5.48xlarge"
    error_message = "EKS wants a capacity block's instance type in the launch template."
  }
  assert {
    condition     = aws_launch_template.this.capacity_reservation_specification[0].capacity_reservation_target[0].capacity_reservation_id == "cr-0123456789abcdef0"
    error_message = "Nodes must start in the block that was bought."
  }
  assert {
    condition     = length(aws_placement_group.this) == 0 && length(aws_launch_template.this.placement) == 0
    error_message = "No placement group beside a reservation: no instance would start."
  }
}

run "starts_in_a_reservation_on_demand" {
  command = plan
  variables {
    efa            = true
    capacity       = "reservation"
    reservation_id = "cr-0123456789abcdef0"
  }
  assert {
    condition     = aws_eks_node_group.this.capacity_type == "ON_DEMAND" && length(aws_launch_template.this.instance_market_options) == 0 && length(aws_placement_group.this) == 0
    error_message = "A reservation is on demand, without market options and without placement group."
  }
  assert {
    condition     = aws_launch_template.this.instance_type == null && aws_eks_node_group.this.instance_types[0] == "p5.48xlarge"
    error_message = "Outside of capacity blocks the node group says the instance type, and the launch template must not."
  }
}

run "is_spot_for_rollout" {
  command = plan
  variables {
    name           = "rollout"
    pool           = "rollout"
    capacity       = "spot"
    subnets        = { "use1-az4" = "subnet-a", "use1-az6" = "subnet-b" }
    instance_types = ["g6e.48xlarge", "p4de.24xlarge"]
  }
  assert {
    condition     = aws_eks_node_group.this.capacity_type == "SPOT" && length(aws_eks_node_group.this.subnet_ids) == 2
    error_message = "Spot nodes are looked for in every zone given."
  }
}

run "has_a_plain_image_and_no_taint_without_gpu" {
  command = plan
  variables {
    name           = "system"
    pool           = "system"
    instance_types = ["m7i.xlarge"]
    min_size       = 2
  }
  assert {
    condition     = aws_eks_node_group.this.ami_type == "AL2023_x86_64_STANDARD" && length(aws_eks_node_group.this.taint) == 0
    error_message = "Nodes without GPU take any pod and need no driver."
  }
}

run "refuses_a_capacity_block_without_reservation_over_two_zones" {
  command = plan
  variables {
    capacity = "capacity-block"
    subnets  = { "use1-az4" = "subnet-a", "use1-az6" = "subnet-b" }
  }
  expect_failures = [var.reservation_id, var.subnets]
}

run "refuses_an_unused_reservation_and_efa_over_two_zones" {
  command = plan
  variables {
    reservation_id = "cr-0123456789abcdef0"
    efa            = true
    subnets        = { "use1-az4" = "subnet-a", "use1-az6" = "subnet-b" }
  }
  expect_failures = [var.reservation_id, var.subnets]
}

run "refuses_types_with_different_efa" {
  command = plan
  variables {
    efa            = true
    instance_types = ["p5.48xlarge", "p5en.48xlarge"]
  }
  expect_failures = [var.efa]
}

run "refuses_types_with_different_gpus" {
  command = plan
  variables {
    instance_types = ["g6e.12xlarge", "g6e.48xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "refuses_efa_where_there_is_none_and_less_room_than_nodes" {
  command = plan
  variables {
    efa            = true
    pool           = "cpu"
    instance_types = ["m7i.4xlarge"]
    min_size       = 5
  }
  expect_failures = [var.efa, var.max_size]
}

run "refuses_spot_for_training" {
  command = plan
  variables {
    capacity = "spot"
  }
  expect_failures = [var.capacity]
}

run "refuses_an_accelerated_type_that_nobody_looked_up" {
  command = plan
  variables {
    instance_types = ["p9.48xlarge"]
  }
  expect_failures = [var.instance_types]
}
