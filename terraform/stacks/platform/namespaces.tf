# Namespaces, and who may do what in them.

resource "kubernetes_namespace_v1" "jobs" {
  metadata {
    name = var.cloud.task.namespace
    # GPUs and EFA come by device plugins: a stage needs no privilege.
    labels = { "pod-security.kubernetes.io/enforce" = "baseline", "pod-security.kubernetes.io/warn" = "restricted" }
  }
}

resource "kubernetes_namespace_v1" "metaflow" {
  metadata {
    name   = var.cloud.metaflow_namespace
    labels = { "pod-security.kubernetes.io/enforce" = "baseline" }
  }
}

resource "kubernetes_namespace_v1" "argo" {
  metadata {
    name   = "argo"
    labels = { "pod-security.kubernetes.io/enforce" = "baseline" }
  }
}

# The lineage page and the scheduler.
resource "kubernetes_namespace_v1" "services" {
  count = var.page == null && var.scheduler == null ? 0 : 1

  metadata {
    name   = var.cloud.services.namespace
    labels = { "pod-security.kubernetes.io/enforce" = "restricted" }
  }
}

resource "kubernetes_namespace_v1" "sandbox" {
  count = var.sandbox_namespace == null ? 0 : 1

  metadata {
    name = var.sandbox_namespace
    # Making boxes takes privileges, which docs/sandbox.md lists.
    labels = { "pod-security.kubernetes.io/enforce" = "privileged" }
  }
}

# Its rights in AWS come by Pod Identity, from the cloud stack; its rights in the cluster are these alone.
resource "kubernetes_service_account_v1" "task" {
  metadata {
    name      = var.cloud.task.service_account
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }
}

resource "kubernetes_role_v1" "task" {
  metadata {
    name      = "task"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  # How Argo's executor says that a step is done.
  rule {
    api_groups = ["argoproj.io"]
    resources  = ["workflowtaskresults"]
    verbs      = ["create", "patch"]
  }

  # A step of several nodes starts its own JobSet and waits for it.
  rule {
    api_groups = ["jobset.x-k8s.io"]
    resources  = ["jobsets"]
    verbs      = ["create", "get", "list", "watch", "delete"]
  }
}

resource "kubernetes_role_binding_v1" "task" {
  metadata {
    name      = "task"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = kubernetes_role_v1.task.metadata[0].name
  }

  subject {
    kind      = "ServiceAccount"
    name      = kubernetes_service_account_v1.task.metadata[0].name
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }
}

# Developers deploy flows, start runs and read logs, in the one namespace.
resource "kubernetes_role_v1" "developer" {
  metadata {
    name      = "developer"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  rule {
    api_groups = ["argoproj.io"]
    resources  = ["workflows", "workflowtemplates", "sensors"]
    verbs      = ["create", "get", "list", "watch", "update", "patch", "delete"]
  }

  # Where a scheduler runs recipes at their times, a CronWorkflow would start them a second time.
  rule {
    api_groups = ["argoproj.io"]
    resources  = ["cronworkflows"]
    verbs      = concat(["get", "list", "watch", "delete"], var.argo_schedules ? ["create", "update", "patch"] : [])
  }

  rule {
    api_groups = ["batch", "jobset.x-k8s.io"]
    resources  = ["jobs", "jobsets"]
    verbs      = ["create", "get", "list", "watch", "update", "patch", "delete"]
  }

  rule {
    api_groups = [""]
    resources  = ["pods", "pods/log", "events", "services"]
    verbs      = ["get", "list", "watch"]
  }

  rule {
    api_groups = [""]
    resources  = ["pods"]
    verbs      = ["delete"]
  }

  # The webhook of Argo Events is reached by a port-forward too.
  rule {
    api_groups = [""]
    resources  = ["pods/portforward"]
    verbs      = ["create"]
  }
}

resource "kubernetes_role_binding_v1" "developer" {
  metadata {
    name      = "developer"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = kubernetes_role_v1.developer.metadata[0].name
  }

  subject {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Group"
    name      = var.cloud.cluster.developer_group
  }
}

# The way to services without a login of their own: whoever may forward a port may use them.
locals {
  forwarded = setunion(
    [kubernetes_namespace_v1.metaflow.metadata[0].name, kubernetes_namespace_v1.argo.metadata[0].name],
    kubernetes_namespace_v1.services[*].metadata[0].name,
  )
}

resource "kubernetes_role_v1" "forward" {
  for_each = local.forwarded

  metadata {
    name      = "forward-ports"
    namespace = each.key
  }

  rule {
    api_groups = [""]
    resources  = ["pods", "services"]
    verbs      = ["get", "list"]
  }

  rule {
    api_groups = [""]
    resources  = ["pods/portforward"]
    verbs      = ["create"]
  }
}

resource "kubernetes_role_binding_v1" "forward" {
  for_each = local.forwarded

  metadata {
    name      = "forward-ports"
    namespace = each.key
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = kubernetes_role_v1.forward[each.key].metadata[0].name
  }

  subject {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Group"
    name      = var.cloud.cluster.developer_group
  }
}

# Pods of a run talk to each other (torchrun, Ray, NCCL's set-up). Nothing else talks to them, but for KubeRay's operator
# where it is: it asks the Ray clusters that it starts how they are.
resource "kubernetes_network_policy_v1" "jobs" {
  metadata {
    name      = "among-themselves"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  spec {
    pod_selector {}
    policy_types = ["Ingress"]

    ingress {
      from {
        pod_selector {}
      }
    }

    dynamic "ingress" {
      for_each = helm_release.kuberay[*].namespace

      content {
        from {
          namespace_selector {
            match_labels = { "kubernetes.io/metadata.name" = ingress.value }
          }
        }
      }
    }
  }
}
