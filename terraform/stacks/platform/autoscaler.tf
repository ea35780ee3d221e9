# Adds nodes while pods wait for them, and takes empty ones away. It finds the node groups by the tags that EKS gives them.

resource "helm_release" "cluster_autoscaler" {
  name       = "cluster-autoscaler"
  namespace  = "kube-system"
  repository = local.charts.cluster_autoscaler.repository
  chart      = local.charts.cluster_autoscaler.chart
  version    = local.charts.cluster_autoscaler.version
  atomic     = true

  values = [yamlencode({
    cloudProvider = "aws"
    awsRegion     = var.cloud.region
    autoDiscovery = { clusterName = var.cloud.cluster.name }
    image         = { tag = local.images.autoscaler_tag }
    nodeSelector  = local.system_nodes
    # Pod Identity gives this account its role: the name is the cloud stack's.
    rbac = { serviceAccount = { create = true, name = "cluster-autoscaler" } }
    extraArgs = {
      expander = "least-waste"
      # A node with 8 GPUs costs some dollars for each of these minutes; starting one takes about as long.
      "scale-down-unneeded-time"   = "10m"
      "scale-down-delay-after-add" = "10m"
      # Pods that wait for capacity that is sold out are left to wait: other groups are tried meanwhile.
      "max-node-provision-time"       = "20m"
      "skip-nodes-with-local-storage" = "false"
      "skip-nodes-with-system-pods"   = "true"
      "balance-similar-node-groups"   = "false"
    }
  })]
}
