variable "cluster_name" {
  type        = string
  description = "The cluster whose service accounts get roles."
}

variable "cluster_arn" {
  type        = string
  description = "Its ARN: roles can be assumed from no other."
}

variable "task" {
  type = object({
    namespace       = string
    service_account = string
  })
  description = "The service account that tasks run as."

  validation {
    condition     = !contains(["default", "kube-system"], var.task.namespace) && var.task.service_account != "default"
    error_message = "task must name a namespace other than default and kube-system and a service account other than default: every pod that names none runs as that, and would have the tasks' rights."
  }
}

variable "metaflow_namespace" {
  type        = string
  description = "The namespace of Metaflow's service and page."

  validation {
    condition     = var.metaflow_namespace != var.task.namespace
    error_message = "metaflow_namespace must differ from the tasks' namespace: what runs beside the service could read its password."
  }
}

variable "services" {
  type = object({
    namespace    = string
    page_actions = bool
    scheduler    = bool
  })
  description = "The namespace of the lineage page and the scheduler, whether the page may add records to the store, and whether there is a scheduler, which may do what a task may."

  validation {
    condition     = !contains([var.task.namespace, var.metaflow_namespace, "default", "kube-system"], var.services.namespace)
    error_message = "services.namespace must be a namespace of its own: what runs beside the page could read its token."
  }
}

variable "bucket_arn" {
  type        = string
  description = "The artifacts' bucket."
}

variable "prefix" {
  type        = string
  description = "The prefix in it that tasks use."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9/_-]*[a-z0-9]$", var.prefix))
    error_message = "prefix must be lower-case letters, digits, -, _ and /, without a slash at its ends: an empty one, or one with a *, would open the whole bucket."
  }
}

variable "data_key_arn" {
  type        = string
  description = "KMS key of artifacts and of the tasks' secret."
}

variable "task_secret_arn" {
  type        = string
  description = "The secret that tasks may read."
}

variable "database_secret_arn" {
  type        = string
  description = "The secret with the database's password."
}

variable "database_key_arn" {
  type        = string
  description = "KMS key of the database and of its password."
}
