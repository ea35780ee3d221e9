# GPUs and EFA interfaces as things that a pod may ask for, and what DCGM measures of the GPUs.

resource "helm_release" "nvidia_plugin" {
  count = var.gpu_software == "device-plugin" ? 1 : 0

  name       = "nvidia-device-plugin"
  namespace  = "kube-system"
  repository = local.charts.nvidia_plugin.repository
  chart      = local.charts.nvidia_plugin.chart
  version    = local.charts.nvidia_plugin.version
  atomic     = true

  # Node groups label their nodes nvidia.com/gpu.present, which is one of the labels that the chart's affinity takes:
  # feature discovery has nothing to find.
  values = [yamlencode({ nfd = { enabled = false }, gfd = { enabled = false }, tolerations = local.gpu_toleration })]
}

resource "helm_release" "gpu_operator" {
  count = var.gpu_software == "gpu-operator" ? 1 : 0

  name             = "gpu-operator"
  namespace        = "gpu-operator"
  create_namespace = true
  repository       = local.charts.gpu_operator.repository
  chart            = local.charts.gpu_operator.chart
  version          = local.charts.gpu_operator.version
  atomic           = true
  timeout          = 900

  # EKS's node image has driver and toolkit already; another of either would break it.
  values = [yamlencode({
    driver       = { enabled = false }
    toolkit      = { enabled = false }
    dcgmExporter = { enabled = true, serviceMonitor = { enabled = false } }
    operator     = { nodeSelector = local.system_nodes }
    # Its workers find the GPUs. Until they have, the operator turns the node groups' nvidia.com/gpu.present to "false".
    "node-feature-discovery" = {
      master = { nodeSelector = local.system_nodes }
      gc     = { nodeSelector = local.system_nodes }
    }
  })]
}

resource "helm_release" "efa_plugin" {
  count = var.cloud.efa ? 1 : 0

  name       = "efa-device-plugin"
  namespace  = "kube-system"
  repository = local.charts.efa_plugin.repository
  chart      = local.charts.efa_plugin.chart
  version    = local.charts.efa_plugin.version
  atomic     = true

  values = [yamlencode({
    nodeSelector = { "longhaul/efa" = "true" }
    tolerations  = local.gpu_toleration
  })]
}

# Prometheus' format on port 9400 of each GPU node. No Prometheus is installed: the annotations are for the one there is.
resource "helm_release" "dcgm_exporter" {
  count = var.gpu_software == "device-plugin" ? 1 : 0

  name             = "dcgm-exporter"
  namespace        = "gpu-metrics"
  create_namespace = true
  repository       = local.charts.dcgm_exporter.repository
  chart            = local.charts.dcgm_exporter.chart
  version          = local.charts.dcgm_exporter.version
  atomic           = true

  values = [yamlencode({
    serviceMonitor = { enabled = false }
    podAnnotations = { "prometheus.io/scrape" = "true", "prometheus.io/port" = "9400" }
    nodeSelector   = { "nvidia.com/gpu.present" = "true" }
    tolerations    = local.gpu_toleration
  })]
}
