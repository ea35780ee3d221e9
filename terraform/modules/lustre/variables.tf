variable "name" {
  type        = string
  description = "The file system's name."
}

variable "vpc_id" {
  type        = string
  description = "The VPC of the subnet."
}

variable "subnet" {
  type        = string
  description = "The subnet, in the zone of the training nodes: traffic across zones is slow and billed."
}

variable "client_security_group" {
  type        = string
  description = "The security group whose members may mount it."
}

variable "key_arn" {
  type        = string
  description = "KMS key that encrypts it."
}

variable "capacity_gib" {
  type        = number
  description = "Capacity: 1200, or a multiple of 2400."
  default     = 4800

  validation {
    condition     = var.capacity_gib == 1200 || (var.capacity_gib > 0 && var.capacity_gib % 2400 == 0)
    error_message = "capacity_gib must be 1200 or a multiple of 2400: FSx sells PERSISTENT_2 in these steps."
  }
}

variable "throughput" {
  type        = number
  description = "MB/s for each TiB."
  default     = 250

  validation {
    condition     = contains([125, 250, 500, 1000], var.throughput)
    error_message = "throughput must be 125, 250, 500 or 1000 MB/s for each TiB."
  }
}
