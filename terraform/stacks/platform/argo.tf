# Argo Workflows runs the flow, Argo Events starts flows by events, and JobSet runs steps of several nodes.

resource "helm_release" "argo_workflows" {
  name       = "argo-workflows"
  namespace  = kubernetes_namespace_v1.argo.metadata[0].name
  repository = local.charts.argo_workflows.repository
  chart      = local.charts.argo_workflows.chart
  version    = local.charts.argo_workflows.version
  atomic     = true

  values = [yamlencode({
    controller = {
      # The chart's workflowNamespaces would only say where it makes roles for tasks, and it makes none here.
      extraArgs     = local.one_namespace
      nodeSelector  = local.system_nodes
      metricsConfig = { enabled = true }
      # What a workflow leaves in the cluster: a day of those that went well, a week of those that did not.
      workflowDefaults = { spec = { ttlStrategy = { secondsAfterSuccess = 86400, secondsAfterFailure = 604800 } } }
    }
    server = {
      # Each request brings its own token, and may do what that token may.
      authModes      = ["client"]
      extraArgs      = local.one_namespace
      nodeSelector   = local.system_nodes
      serviceAccount = { name = local.argo_server }
      # The chart's role reads all secrets of the cluster.
      rbac = { create = false }
    }
    # Roles of tasks are in namespaces.tf.
    workflow = { serviceAccount = { create = false }, rbac = { create = false } }
  })]

  # Without them the server ends as soon as it starts.
  depends_on = [kubernetes_role_binding_v1.argo_server]
}

# What Argo's server asks in its own name: its settings, and the workflows and templates that it keeps in memory. All else
# it asks with the token of who asks it.
resource "kubernetes_role_v1" "argo_server" {
  for_each = local.argo_server_rights

  metadata {
    name      = local.argo_server
    namespace = each.value.namespace
  }

  rule {
    api_groups = [each.value.api_group]
    resources  = each.value.resources
    verbs      = each.value.verbs
  }
}

resource "kubernetes_role_binding_v1" "argo_server" {
  for_each = kubernetes_role_v1.argo_server

  metadata {
    name      = local.argo_server
    namespace = each.value.metadata[0].namespace
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = each.value.metadata[0].name
  }

  subject {
    kind      = "ServiceAccount"
    name      = local.argo_server
    namespace = kubernetes_namespace_v1.argo.metadata[0].name
  }
}

resource "helm_release" "argo_events" {
  name       = "argo-events"
  namespace  = kubernetes_namespace_v1.argo.metadata[0].name
  repository = local.charts.argo_events.repository
  chart      = local.charts.argo_events.chart
  version    = local.charts.argo_events.version
  atomic     = true

  values = [yamlencode({
    controller = { nodeSelector = local.system_nodes }
    # The bus' own pods are started from this list: one version, not "latest".
    configs = {
      jetstream = {
        versions = [{
          version              = local.nats.version
          natsImage            = "nats:${local.nats.version}"
          metricsExporterImage = "natsio/prometheus-nats-exporter:0.14.0"
          configReloaderImage  = "natsio/nats-server-config-reloader:0.14.0"
          startCommand         = "/nats-server"
        }]
      }
    }
  })]
}

locals {
  # Argo looks at this namespace alone: its page too, where people may list nothing elsewhere.
  one_namespace = ["--namespaced", "--managed-namespace", kubernetes_namespace_v1.jobs.metadata[0].name]

  argo_server = "argo-server"
  argo_server_rights = {
    settings = {
      namespace = kubernetes_namespace_v1.argo.metadata[0].name
      api_group = ""
      resources = ["configmaps"]
      verbs     = ["get"]
    }
    workflows = {
      namespace = kubernetes_namespace_v1.jobs.metadata[0].name
      api_group = "argoproj.io"
      resources = ["workflows", "workflowtemplates"]
      verbs     = ["get", "list", "watch"]
    }
  }

  nats = { version = "2.10.10" }

  events = {
    bus             = "default"
    source          = "argo-events-webhook"
    event           = "metaflow-event"
    port            = 12000
    service_account = "${var.cloud.task.namespace}-events"
  }
}

# What sensors run as: they start workflows from templates that are there, and nothing else.
resource "kubernetes_service_account_v1" "events" {
  metadata {
    name      = local.events.service_account
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }
}

resource "kubernetes_role_v1" "events" {
  metadata {
    name      = "events"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  rule {
    api_groups = ["argoproj.io"]
    resources  = ["workflows"]
    verbs      = ["create", "get", "list"]
  }

  rule {
    api_groups = ["argoproj.io"]
    resources  = ["workflowtemplates"]
    verbs      = ["get", "list"]
  }
}

resource "kubernetes_role_binding_v1" "events" {
  metadata {
    name      = "events"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = kubernetes_role_v1.events.metadata[0].name
  }

  subject {
    kind      = "ServiceAccount"
    name      = kubernetes_service_account_v1.events.metadata[0].name
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }
}

resource "helm_release" "jobset" {
  name             = "jobset"
  namespace        = "jobset-system"
  create_namespace = true
  repository       = local.charts.jobset.repository
  chart            = local.charts.jobset.chart
  version          = local.charts.jobset.version
  atomic           = true

  values = [yamlencode({
    image      = merge(local.images.jobset, { pullPolicy = "IfNotPresent" })
    controller = { nodeSelector = local.system_nodes }
  })]
}

resource "helm_release" "kuberay" {
  count = var.kuberay ? 1 : 0

  name             = "kuberay-operator"
  namespace        = "kuberay"
  create_namespace = true
  repository       = local.charts.kuberay.repository
  chart            = local.charts.kuberay.chart
  version          = local.charts.kuberay.version
  atomic           = true

  values = [yamlencode({ nodeSelector = local.system_nodes, watchNamespace = [var.cloud.task.namespace] })]
}
