# Every chart and image from elsewhere, with its version. They were looked up in November 2026 in their projects' own
# repositories; none could be pulled where this was written.

locals {
  charts = {
    argo_events        = { repository = "https://argoproj.github.io/argo-helm", chart = "argo-events", version = "2.4.22" }
    argo_workflows     = { repository = "https://argoproj.github.io/argo-helm", chart = "argo-workflows", version = "1.0.18" }
    cluster_autoscaler = { repository = "https://kubernetes.github.io/autoscaler", chart = "cluster-autoscaler", version = "9.59.0" }
    dcgm_exporter      = { repository = "https://nvidia.github.io/dcgm-exporter/helm-charts", chart = "dcgm-exporter", version = "4.8.2" }
    efa_plugin         = { repository = "https://aws.github.io/eks-charts", chart = "aws-efa-k8s-device-plugin", version = "v0.5.30" }
    gpu_operator       = { repository = "https://helm.ngc.nvidia.com/nvidia", chart = "gpu-operator", version = "v26.7.0" }
    jobset             = { repository = "oci://registry.k8s.io/jobset/charts", chart = "jobset", version = "0.12.0" }
    kuberay            = { repository = "https://ray-project.github.io/kuberay-helm", chart = "kuberay-operator", version = "1.7.0" }
    nvidia_plugin      = { repository = "https://nvidia.github.io/k8s-device-plugin", chart = "nvidia-device-plugin", version = "0.20.0" }
    secrets_provider   = { repository = "https://aws.github.io/secrets-store-csi-driver-provider-aws", chart = "secrets-store-csi-driver-provider-aws", version = "3.1.1" }
  }

  images = {
    # Service, migrations and page; the page's files are in the same image.
    metaflow_service = "docker.io/netflixoss/metaflow_metadata_service:v2.5.1"
    # Packaged charts name this image too; the chart's source names a moving tag of a staging registry.
    jobset = { repository = "registry.k8s.io/jobset/jobset", tag = "v0.12.0" }
    # A minor version of Kubernetes has an autoscaler of its own.
    autoscaler_tag = "v${var.cloud.cluster.version}.0"
  }

  # The platform's own pods stay on the nodes that are always there.
  system_nodes = { "longhaul/pool" = "system" }

  gpu_toleration = [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }]
}
