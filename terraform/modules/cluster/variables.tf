variable "name" {
  type        = string
  description = "The cluster's name."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and hyphens, and begin with a letter: longhaul, for one."
  }
}

variable "kubernetes_version" {
  type        = string
  description = "Kubernetes' minor version, one that EKS still has in standard support."

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version)) && tonumber(split(".", var.kubernetes_version)[1]) >= 33
    error_message = "kubernetes_version must be a minor version from 1.33 on, as \"1.35\": see `aws eks describe-cluster-versions`."
  }
}

variable "control_plane_subnets" {
  type        = list(string)
  description = "Subnets in two zones or more for the control plane's interfaces."

  validation {
    condition     = length(var.control_plane_subnets) >= 2
    error_message = "control_plane_subnets must hold subnets of two zones or more: EKS refuses one."
  }
}

variable "api_public_cidrs" {
  type        = list(string)
  description = "Addresses from which the API may be reached over the internet; none makes it reachable from the VPC alone."
  default     = []

  validation {
    condition     = alltrue([for cidr in var.api_public_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]) >= 16, false)])
    error_message = "api_public_cidrs must be IPv4 ranges of /16 or smaller, as [\"203.0.113.0/24\"]: give your office's or VPN's range, never 0.0.0.0/0."
  }
}

variable "admins" {
  type        = set(string)
  description = "IAM roles or users that may do everything in the cluster."

  validation {
    condition     = length(var.admins) > 0 && alltrue([for arn in var.admins : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "admins must hold the ARN of one IAM role or user at least, as arn:aws:iam::123456789012:role/admin: with none, nobody could enter the cluster. `aws sts get-caller-identity` prints yours."
  }
}

variable "developers" {
  type        = set(string)
  description = "IAM roles or users that may start and watch runs."
  default     = []

  validation {
    condition     = alltrue([for arn in var.developers : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "developers must hold ARNs of IAM roles or users, as arn:aws:iam::123456789012:role/researcher."
  }

  validation {
    condition     = length(setintersection(var.admins, var.developers)) == 0
    error_message = "developers and admins name the same role or user: EKS takes one entry for each. Take it out of developers."
  }
}

variable "developer_group" {
  type        = string
  description = "The Kubernetes group that developers are in."
  default     = "longhaul:developers"

  validation {
    condition     = !startswith(var.developer_group, "system:")
    error_message = "developer_group must not begin with system:, which Kubernetes keeps for itself."
  }
}

variable "key_arn" {
  type        = string
  description = "KMS key for Kubernetes secrets and the control plane's logs; its policy must let CloudWatch Logs use it."
}

variable "log_days" {
  type        = number
  description = "Days for which the control plane's logs are kept."
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 180, 365, 400, 731], var.log_days)
    error_message = "log_days must be one of CloudWatch's periods: 30, 60, 90, 180, 365, 400 or 731."
  }
}

variable "addon_versions" {
  type        = map(string)
  description = "Versions of EKS add-ons by name; one that is not named takes EKS's default for the Kubernetes version."
  default     = {}
}

variable "deletion_protection" {
  type        = bool
  description = "Whether the cluster must be unprotected before it can be destroyed."
  default     = true
}
