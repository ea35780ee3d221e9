variable "name" {
  type        = string
  description = "The installation's name: the cluster's, and what all else is named after."
  default     = "longhaul"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 22 lower-case letters, digits and hyphens, and begin with a letter: longhaul, for one."
  }
}

variable "size" {
  type        = string
  description = "Which of terraform/sizes this is; a tag on everything, and nothing else."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.size))
    error_message = "size must be a word, as small: give -var-file=../../sizes/small.tfvars, which says it."
  }
}

variable "region" {
  type        = string
  description = "The AWS region."

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be an AWS region, as us-east-1."
  }
}

variable "zones" {
  type        = list(string)
  description = "Ids of availability zones of that region, two or three. The first has the NAT gateway where there is one only."

  validation {
    condition     = contains([2, 3], length(var.zones)) && alltrue([for zone in var.zones : can(regex("^[a-z]+[0-9]-az[0-9]+$", zone))])
    error_message = "zones must hold two or three zone ids of the region, as [\"use1-az4\", \"use1-az6\"]: a name like us-east-1a names different zones in different accounts. `aws ec2 describe-availability-zones` lists both."
  }
}

variable "cidr" {
  type        = string
  description = "The VPC's IPv4 range, a /16."
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && can(regex("/16$", var.cidr))
    error_message = "cidr must be an IPv4 range with a /16 mask, as 10.64.0.0/16; take one that no network beside it uses."
  }
}

variable "nat_per_zone" {
  type        = bool
  description = "A NAT gateway in each zone."
  default     = false
}

variable "interface_endpoints" {
  type        = set(string)
  description = "Services of AWS with an endpoint in the VPC, beside S3's."
  default     = ["ecr.api", "ecr.dkr", "eks-auth", "kms", "logs", "secretsmanager", "sts"]

  validation {
    condition     = !contains(var.interface_endpoints, "s3")
    error_message = "interface_endpoints must not hold s3: S3 has a gateway endpoint, which costs nothing. Take it out."
  }
}

variable "kubernetes_version" {
  type        = string
  description = "Kubernetes' minor version."
  # EKS supports 1.35 at the standard price until March 27, 2027.
  default = "1.35"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version, as \"1.35\": see `aws eks describe-cluster-versions`."
  }
}

variable "addon_versions" {
  type        = map(string)
  description = "Versions of EKS add-ons by name; one that is not named takes EKS's default for the Kubernetes version."
  default     = {}

  validation {
    condition     = alltrue([for version in values(var.addon_versions) : can(regex("^v[0-9]+\\.[0-9]+\\.[0-9]+", version))])
    error_message = "addon_versions must map names to versions, as {coredns = \"v1.12.4-eksbuild.1\"}: see `aws eks describe-addon-versions`."
  }
}

variable "admins" {
  type        = set(string)
  description = "IAM roles or users that may do everything in the cluster."

  validation {
    condition     = length(var.admins) > 0
    error_message = "admins must hold the ARN of one IAM role or user at least: with none, nobody could enter the cluster. `aws sts get-caller-identity` prints yours."
  }
}

variable "developers" {
  type        = set(string)
  description = "IAM roles or users that may start and watch runs."
  default     = []

  validation {
    condition     = length(setintersection(var.admins, var.developers)) == 0
    error_message = "developers and admins name the same role or user: EKS takes one entry for each. Take it out of developers."
  }
}

variable "api_public_cidrs" {
  type        = list(string)
  description = "Addresses from which the cluster's API may be reached over the internet; with none, from the VPC alone."
  default     = []

  validation {
    condition     = !contains(var.api_public_cidrs, "0.0.0.0/0")
    error_message = "api_public_cidrs must not be the whole internet: give your office's or VPN's range, as [\"203.0.113.0/24\"]."
  }
}

variable "node_groups" {
  type = map(object({
    pool           = string
    instance_types = list(string)
    max_size       = number
    min_size       = optional(number, 0)
    capacity       = optional(string, "on-demand")
    reservation_id = optional(string)
    zones          = optional(list(string))
    efa            = optional(bool, false)
    disk_gib       = optional(number, 200)
  }))
  description = "Groups of nodes by name; modules/node_group says what each key means. All zones where zones is left out."

  validation {
    condition     = anytrue([for group in var.node_groups : group.pool == "system" && group.min_size >= 1])
    error_message = "node_groups needs one group with pool = \"system\" and min_size of 1 or more: the autoscaler that starts all other nodes runs there."
  }

  validation {
    condition     = alltrue([for group in var.node_groups : alltrue([for zone in coalesce(group.zones, var.zones) : contains(var.zones, zone)])])
    error_message = "A group of node_groups names a zone that is not in zones: add it there, or take one of those."
  }

  validation {
    condition     = alltrue([for group in var.node_groups : group.pool == "system" || group.min_size == 0 || group.capacity != "on-demand"])
    error_message = "A group of node_groups that is had on demand keeps nodes running while nothing runs: set its min_size to 0, which the autoscaler raises from."
  }
}

variable "jobs_namespace" {
  type        = string
  description = "The Kubernetes namespace in which runs run."
  default     = "longhaul"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", var.jobs_namespace)) && !contains(["default", "kube-system"], var.jobs_namespace)
    error_message = "jobs_namespace must be a namespace of its own, of lower-case letters, digits and hyphens; not default or kube-system."
  }
}

variable "metaflow_namespace" {
  type        = string
  description = "The Kubernetes namespace of Metaflow's service and page."
  default     = "metaflow"

  validation {
    condition     = var.metaflow_namespace != var.jobs_namespace
    error_message = "metaflow_namespace must differ from jobs_namespace: what runs beside the service could read its password."
  }
}

variable "services" {
  type = object({
    namespace    = optional(string, "longhaul-services")
    page_actions = optional(bool, false)
    scheduler    = optional(bool, false)
  })
  description = "The Kubernetes namespace of the lineage page and the scheduler, and what they may do in AWS: whether the page may set tags, and whether there is a scheduler (the platform stack's `page` and `scheduler`)."
  default     = {}

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", var.services.namespace)) && !contains([var.jobs_namespace, var.metaflow_namespace, "default", "kube-system"], var.services.namespace)
    error_message = "services.namespace must be a namespace of its own, of lower-case letters, digits and hyphens: what runs beside the page could read its token."
  }
}

variable "artifacts_bucket" {
  type        = string
  description = "The artifacts' bucket; NAME-artifacts-ACCOUNT without it."
  default     = null

  validation {
    condition     = var.artifacts_bucket == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.artifacts_bucket))
    error_message = "artifacts_bucket must be 3 to 63 lower-case letters, digits and hyphens, or be left out."
  }
}

variable "artifacts_prefix" {
  type        = string
  description = "What all of the project's keys in the bucket begin with."
  default     = "longhaul"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9/_-]*[a-z0-9]$", var.artifacts_prefix))
    error_message = "artifacts_prefix must be lower-case letters, digits, -, _ and /, without a slash at its ends."
  }
}

variable "database" {
  type = object({
    instance_class = optional(string, "db.t4g.medium")
    multi_az       = optional(bool, false)
  })
  description = "Metaflow's database."
  default     = {}

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database.instance_class))
    error_message = "database.instance_class must be a class of RDS, as db.t4g.medium or db.m7g.large."
  }
}

variable "lustre" {
  type = object({
    zone         = string
    capacity_gib = optional(number, 4800)
    throughput   = optional(number, 250)
  })
  description = "FSx for Lustre as shared scratch, in the training nodes' zone; none without it."
  default     = null

  validation {
    condition     = var.lustre == null || contains(var.zones, try(var.lustre.zone, ""))
    error_message = "lustre.zone must be one of zones: take the training nodes' zone."
  }
}

variable "budget" {
  type = object({
    monthly_usd     = number
    emails          = set(string)
    watch_anomalies = optional(bool, false)
  })
  description = "The account's monthly budget and who gets an e-mail about it. watch_anomalies makes a monitor of unusual spending: an account may have one for its services, and AWS makes it in many."

  validation {
    condition     = var.budget.monthly_usd > 0 && length(var.budget.emails) > 0
    error_message = "budget needs monthly_usd above 0 and one address at least in emails, as {monthly_usd = 2000, emails = [\"you@example.com\"]}: terraform/README.md tells what each size costs an hour."
  }
}

variable "log_days" {
  type        = number
  description = "Days for which flow logs and the control plane's logs are kept."
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 180, 365, 400, 731], var.log_days)
    error_message = "log_days must be one of CloudWatch's periods: 30, 60, 90, 180, 365, 400 or 731."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether cluster and database must be unprotected before they can be destroyed."
  default     = true
}
