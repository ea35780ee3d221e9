variable "cloud" {
  type = object({
    name       = string
    region     = string
    account_id = string
    cluster = object({
      name                  = string
      endpoint              = string
      certificate_authority = string
      version               = string
      developer_group       = string
    })
    task = object({
      namespace       = string
      service_account = string
    })
    metaflow_namespace = string
    artifacts = object({
      store         = string
      metaflow_root = string
    })
    database = object({
      host       = string
      name       = string
      user       = string
      secret_arn = string
    })
    task_secret_name = string
    registry         = string
    repositories     = map(string)
    efa              = bool
    lustre = optional(object({
      id         = string
      dns_name   = string
      mount_name = string
      gib        = number
    }))
  })
  description = "What the cloud stack made: its output platform_input, as the file cloud.auto.tfvars.json."

  validation {
    condition     = startswith(var.cloud.cluster.endpoint, "https://")
    error_message = "cloud.cluster.endpoint must be an https address: write the file again with `terraform -chdir=../cloud output -json platform_input > cloud.auto.tfvars.json`."
  }

  validation {
    condition     = startswith(var.cloud.artifacts.metaflow_root, "s3://") && startswith(var.cloud.artifacts.store, "s3://")
    error_message = "cloud.artifacts must hold s3:// addresses: write the file again with `terraform -chdir=../cloud output -json platform_input > cloud.auto.tfvars.json`."
  }
}

variable "gpu_software" {
  type        = string
  description = "What makes GPUs known to Kubernetes: device-plugin (the node image has driver and toolkit) or gpu-operator, which brings its own DCGM metrics, MIG and more moving parts."
  default     = "device-plugin"

  validation {
    condition     = contains(["device-plugin", "gpu-operator"], var.gpu_software)
    error_message = "gpu_software must be device-plugin or gpu-operator; with both, two plugins would fight for one socket."
  }
}

variable "kuberay" {
  type        = bool
  description = "Whether to install KubeRay's operator. Stages start Ray inside their own pods and do not need it."
  default     = false
}

variable "sandbox_namespace" {
  type        = string
  description = "A namespace for the sandbox's service (infra/sandbox/deploy/kubernetes.yaml), labelled as its pods need; none with null."
  default     = "longhaul-sandbox"

  validation {
    condition     = var.sandbox_namespace == null || !contains([var.cloud.task.namespace, var.cloud.metaflow_namespace, "default", "kube-system"], coalesce(var.sandbox_namespace, "-"))
    error_message = "sandbox_namespace must be a namespace of its own: its pods are privileged, and what breaks out of one must find nothing beside it."
  }
}

variable "service_url" {
  type        = string
  description = "Where people's machines reach Metaflow's service. It has no login of its own, so by default that is a port-forward."
  default     = "http://localhost:8080"

  validation {
    condition     = can(regex("^https?://[^/ ]+(/[^ ]*[^/ ])?$", var.service_url))
    error_message = "service_url must be an http(s) address without a slash at its end, as http://localhost:8080."
  }
}

variable "ui_url" {
  type        = string
  description = "Where people's browsers reach Metaflow's page."
  default     = "http://localhost:8083"

  validation {
    condition     = can(regex("^https?://[^/ ]+(/[^ ]*[^/ ])?$", var.ui_url))
    error_message = "ui_url must be an http(s) address without a slash at its end, as http://localhost:8083."
  }
}

variable "argo_ui_url" {
  type        = string
  description = "Where people's browsers reach Argo Workflows."
  default     = "http://localhost:2746"

  validation {
    condition     = can(regex("^https?://[^/ ]+(/[^ ]*[^/ ])?$", var.argo_ui_url))
    error_message = "argo_ui_url must be an http(s) address without a slash at its end, as http://localhost:2746."
  }
}

variable "image_tag" {
  type        = string
  description = "The tag of the image that stages run in; tags are immutable, so a new image is a new tag here."
  default     = "0.1.0"

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag must be a tag that was pushed, as 0.1.0; not latest, which says nothing about what ran."
  }
}
