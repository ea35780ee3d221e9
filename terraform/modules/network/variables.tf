variable "name" {
  type        = string
  description = "What the VPC and all in it is named after."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and hyphens, and begin with a letter: longhaul, for one."
  }
}

variable "cidr" {
  type        = string
  description = "The VPC's IPv4 range, a /16: three quarters of it are for nodes and pods."
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && can(regex("/16$", var.cidr))
    error_message = "cidr must be an IPv4 range with a /16 mask, as 10.64.0.0/16: subnets are cut from it in fixed places."
  }
}

variable "zones" {
  type        = list(string)
  description = "Ids of availability zones, two or three, as use1-az4: a name (us-east-1a) names different zones in different accounts. The first has the NAT gateway where there is one only."

  validation {
    condition     = contains([2, 3], length(var.zones)) && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones must name two or three different zones, as [\"use1-az4\", \"use1-az6\"]: EKS and RDS need two."
  }
}

variable "nat_per_zone" {
  type        = bool
  description = "A NAT gateway in each zone, so that the loss of a zone takes no other zone's way out."
  default     = false
}

variable "interface_endpoints" {
  type        = set(string)
  description = "Services with an interface endpoint, by the last part of the service's name. Each costs by the hour and zone."
  default     = ["ecr.api", "ecr.dkr", "eks-auth", "kms", "logs", "secretsmanager", "sts"]

  validation {
    condition     = !contains(var.interface_endpoints, "s3")
    error_message = "interface_endpoints must not hold s3: S3 has a gateway endpoint, which costs nothing. Take it out."
  }
}

variable "log_days" {
  type        = number
  description = "Days for which flow logs are kept."
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 180, 365, 400, 731], var.log_days)
    error_message = "log_days must be one of CloudWatch's periods: 30, 60, 90, 180, 365, 400 or 731."
  }
}

variable "log_key_arn" {
  type        = string
  description = "KMS key for flow logs; its policy must let CloudWatch Logs use it."
}
