variable "name" {
  type        = string
  description = "The group's name, unique in the cluster."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "name must be up to 31 lower-case letters, digits and hyphens, and begin with a letter: train, for one."
  }
}

variable "pool" {
  type        = string
  description = "What the nodes are for; stages ask for it by the label longhaul/pool."

  validation {
    condition     = contains(["system", "cpu", "train", "rollout"], var.pool)
    error_message = "pool must be system (the platform), cpu (stages without GPU), train or rollout."
  }
}

variable "cluster_name" {
  type        = string
  description = "The cluster that the nodes join."
}

variable "cluster_security_group" {
  type        = string
  description = "EKS's own security group of the cluster."
}

variable "node_role_arn" {
  type        = string
  description = "The role that the nodes run as."
}

variable "vpc_id" {
  type        = string
  description = "The VPC of the subnets."
}

variable "subnets" {
  type        = map(string)
  description = "The subnets in which nodes may start, by zone."

  validation {
    condition     = length(var.subnets) > 0
    error_message = "subnets must hold one subnet at least; look at the group's zones."
  }

  validation {
    condition     = !var.efa || length(var.subnets) == 1
    error_message = "A group with efa needs exactly one zone: EFA does not reach across zones. Name one in the group's zones."
  }

  validation {
    condition     = !contains(["reservation", "capacity-block"], var.capacity) || length(var.subnets) == 1
    error_message = "A group in a capacity reservation or block needs exactly one zone, the reservation's own: name it in the group's zones (`aws ec2 describe-capacity-reservations` tells it)."
  }
}

variable "instance_types" {
  type        = list(string)
  description = "Instance types; several, with spot, make it likelier to get one. All have the same GPUs and interfaces."

  validation {
    condition     = length(var.instance_types) > 0
    error_message = "instance_types must name one type at least, as [\"p5.48xlarge\"]."
  }

  validation {
    condition     = alltrue([for type in var.instance_types : !can(regex("^(p|g|gr|trn|inf)[0-9]", type)) || contains(keys(local.instances), type)])
    error_message = "instance_types holds an accelerated type that is not in modules/node_group/instances.tf: add a line there with its GPUs and EFA interfaces, or take one of that list."
  }

  validation {
    condition     = length(distinct([for type in var.instance_types : try(local.instances[type].gpus, 0)])) <= 1
    error_message = "instance_types must all have the same number of GPUs: a stage asks for as many as a node has. Make a group for each."
  }

  validation {
    condition     = !contains(["reservation", "capacity-block"], var.capacity) || length(var.instance_types) == 1
    error_message = "A capacity reservation or block is for one instance type: name that one alone in instance_types."
  }
}

variable "capacity" {
  type        = string
  description = "How instances are had: on-demand, spot, reservation or capacity-block."
  default     = "on-demand"

  validation {
    condition     = contains(["on-demand", "spot", "reservation", "capacity-block"], var.capacity)
    error_message = "capacity must be on-demand, spot, reservation (an on-demand capacity reservation) or capacity-block."
  }

  validation {
    condition     = var.capacity != "spot" || var.pool != "train"
    error_message = "A train pool must not be spot: the loss of one node ends the training step of all. Use spot for rollout."
  }
}

variable "reservation_id" {
  type        = string
  description = "The capacity reservation or block in which nodes start."
  default     = null

  validation {
    condition     = contains(["reservation", "capacity-block"], var.capacity) == (var.reservation_id != null)
    error_message = "reservation_id belongs to capacity reservation and capacity-block, which need it, and to no other: buy a block (`aws ec2 purchase-capacity-block`) or make a reservation, and give its id, as cr-0123456789abcdef0."
  }

  validation {
    condition     = var.reservation_id == null || can(regex("^cr-[0-9a-f]{8,17}$", var.reservation_id))
    error_message = "reservation_id must be the id of a capacity reservation or block, as cr-0123456789abcdef0."
  }
}

variable "efa" {
  type        = bool
  description = "Whether nodes have every EFA interface that their type takes, for training over several nodes."
  default     = false

  validation {
    condition     = !var.efa || length(distinct([for type in var.instance_types : try(local.instances[type].efa, 0)])) <= 1
    error_message = "With efa, instance_types must all have the same number of EFA interfaces: one launch template serves them all. Make a group for each."
  }

  validation {
    condition     = !var.efa || alltrue([for type in var.instance_types : try(local.instances[type].efa, 0) > 0])
    error_message = "efa is on, and an instance type of the group has no EFA in modules/node_group/instances.tf: turn efa off or take another type."
  }
}

variable "min_size" {
  type        = number
  description = "Nodes that are always there."
  default     = 0

  validation {
    condition     = var.min_size >= 0 && floor(var.min_size) == var.min_size
    error_message = "min_size must be a whole number, 0 or more; with 0 the group costs nothing while no pod wants it."
  }
}

variable "max_size" {
  type        = number
  description = "Most nodes at one time."

  validation {
    condition     = var.max_size >= max(1, var.min_size) && floor(var.max_size) == var.max_size
    error_message = "max_size must be a whole number, 1 or more, and not below min_size."
  }
}

variable "disk_gib" {
  type        = number
  description = "The root volume's size. Images of vLLM take some 20 GiB; GPU types keep images on their instance store."
  default     = 200

  validation {
    condition     = var.disk_gib >= 50 && var.disk_gib <= 16384
    error_message = "disk_gib must be between 50 and 16384: an image with vLLM takes some 20 GiB, and a gp3 volume ends there."
  }
}

variable "tags" {
  type        = map(string)
  description = "Tags for instances, volumes and interfaces, which a provider's default tags do not reach."
  default     = {}
}
