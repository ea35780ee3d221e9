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
    services = object({
      namespace    = string
      page_actions = bool
      scheduler    = bool
    })
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

variable "page" {
  type = object({
    image         = string
    token_secret  = optional(string, "longhaul-page-token")
    allow_actions = optional(bool, false)
    memory        = optional(string, "2Gi")
    ingress = optional(object({
      host        = string
      class       = string
      namespace   = string
      tls_secret  = optional(string)
      annotations = optional(map(string), {})
    }))
  })
  description = "The lineage page (`longhaul lineage serve`): an image with the project's code (target `services` of deploy/Dockerfile), the Kubernetes secret whose key `token` visitors need, whether they may set tags, and the ingress that leads to it: host name, class, the namespace of its controller, and the secret with its certificate. Without an ingress the page is reached by a port-forward; null: no page."
  default     = null

  validation {
    condition     = var.page == null || can(regex("^[^ ]+/[^ ]+:[A-Za-z0-9_][A-Za-z0-9._-]*$", var.page.image)) && !endswith(try(var.page.image, ""), ":latest")
    error_message = "page.image must be REPOSITORY:TAG with a tag that was pushed; not latest, which says nothing about what runs."
  }
  validation {
    condition     = !try(var.page.allow_actions, false) || var.cloud.services.page_actions
    error_message = "page.allow_actions needs a page that may write to the bucket: apply the cloud stack with services = { page_actions = true }, and write cloud.auto.tfvars.json again."
  }
  validation {
    condition     = var.page == null || try(var.page.ingress, null) == null || can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", var.page.ingress.host))
    error_message = "page.ingress.host must be a host name in lower-case letters, without a scheme or a port: the page answers to no other."
  }
}

variable "scheduler" {
  type = object({
    image   = string
    recipes = map(string)
    pool    = optional(string, "cpu")
    cpu     = optional(string, "4")
    memory  = optional(string, "16Gi")
    gpus    = optional(number, 0)
    disk    = optional(string, "100Gi")
    secret  = optional(string)
  })
  description = "A scheduler (`longhaul schedule run`) that runs whole recipes in its own pod, one at a time: an image with the project's code, the recipes' texts by name, the nodes' pool, what the pod gets, and a Kubernetes secret whose keys become environment variables. For recipes that fit one node; `longhaul deploy` brings a recipe's schedule to Argo, where each stage gets its own nodes. null: no scheduler."
  default     = null

  validation {
    condition     = var.scheduler == null || !var.argo_schedules
    error_message = "scheduler and argo_schedules at once would start each schedule twice: set argo_schedules = false, delete the CronWorkflows that are there, or leave the scheduler out."
  }
  validation {
    condition     = var.scheduler == null || var.cloud.services.scheduler
    error_message = "scheduler needs a role in AWS: apply the cloud stack with services = { scheduler = true }, and write cloud.auto.tfvars.json again."
  }
  validation {
    condition     = var.scheduler == null || (length(try(var.scheduler.recipes, {})) > 0 && alltrue([for name in keys(try(var.scheduler.recipes, {})) : can(regex("^[a-z0-9][a-z0-9.-]*$", name))]))
    error_message = "scheduler.recipes must hold at least one recipe, by a name of lower-case letters, digits, dots and hyphens: { nano = file(\"nano.yaml\") }."
  }
  validation {
    condition     = var.scheduler == null || alltrue([for text in values(try(var.scheduler.recipes, {})) : try(yamldecode(text).store, "") == var.cloud.artifacts.store && can(yamldecode(text).schedule)])
    error_message = "each of scheduler.recipes needs a section `schedule`, and the cloud's store as its store (terraform output store): the pod has no other place that lasts."
  }
}

variable "argo_schedules" {
  type        = bool
  description = "Whether recipes' schedules are Argo's: without it nobody but administrators may make a CronWorkflow, so that `longhaul deploy` refuses a recipe with a schedule."
  default     = true
}
