variable "name" {
  type        = string
  description = "The instance's name."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 42 lower-case letters, digits and hyphens, and begin with a letter."
  }
}

variable "engine_version" {
  type        = string
  description = "PostgreSQL's major version; RDS takes and keeps up with its newest minor one."
  default     = "17"

  validation {
    condition     = contains(["15", "16", "17"], var.engine_version)
    error_message = "engine_version must be a major version that Metaflow's service is used with: 15, 16 or 17."
  }
}

variable "instance_class" {
  type        = string
  description = "The instance's class."
  default     = "db.t4g.medium"

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class must be a class of RDS, as db.t4g.medium or db.m7g.large."
  }
}

variable "multi_az" {
  type        = bool
  description = "A standby in another zone, at twice the price; a run waits for the database while it is away."
  default     = false
}

variable "vpc_id" {
  type        = string
  description = "The VPC of the subnets."
}

variable "subnets" {
  type        = list(string)
  description = "Subnets in two zones or more, without a route out."

  validation {
    condition     = length(var.subnets) >= 2
    error_message = "subnets must lie in two zones or more: RDS refuses one, even for a single instance."
  }
}

variable "client_security_group" {
  type        = string
  description = "The security group whose members may connect."
}

variable "key_arn" {
  type        = string
  description = "KMS key for storage, insights and the password."
}

variable "backup_days" {
  type        = number
  description = "Days for which the database can be put back to any minute."
  default     = 14

  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 35
    error_message = "backup_days must be 7 to 35, the most that RDS keeps: a week is little time to notice a loss."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether the instance must be unprotected before it can be destroyed."
  default     = true
}
