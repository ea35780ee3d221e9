variable "name" {
  type        = string
  description = "The installation's name, as in the stacks."
  default     = "longhaul"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 22 lower-case letters, digits and hyphens, and begin with a letter: longhaul, for one."
  }
}

variable "region" {
  type        = string
  description = "The AWS region, as in the stacks."

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be an AWS region, as us-east-1."
  }
}

variable "bucket" {
  type        = string
  description = "The state bucket's name; NAME-terraform-ACCOUNT without it."
  default     = null

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must be 3 to 63 lower-case letters, digits and hyphens, or be left out."
  }
}
