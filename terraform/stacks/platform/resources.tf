# Custom resources, as a chart of our own: `kubernetes_manifest` asks a live cluster for their schemas while it plans, and
# there is none before the first apply.

resource "helm_release" "resources" {
  name      = "longhaul-resources"
  namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  chart     = "${path.module}/../../charts/longhaul-resources"
  atomic    = true

  values = [yamlencode({
    jobsNamespace     = kubernetes_namespace_v1.jobs.metadata[0].name
    metaflowNamespace = kubernetes_namespace_v1.metaflow.metadata[0].name
    region            = var.cloud.region
    databaseSecret    = { arn = var.cloud.database.secret_arn, name = local.database_secret }
    events = {
      bus          = local.events.bus
      source       = local.events.source
      event        = local.events.event
      port         = local.events.port
      nats         = local.nats.version
      storageClass = kubernetes_storage_class_v1.gp3.metadata[0].name
    }
  })]

  # Their definitions come with these.
  depends_on = [helm_release.argo_events, helm_release.secrets_provider]
}

resource "helm_release" "secrets_provider" {
  name       = "secrets-provider-aws"
  namespace  = "kube-system"
  repository = local.charts.secrets_provider.repository
  chart      = local.charts.secrets_provider.chart
  version    = local.charts.secrets_provider.version
  atomic     = true

  values = [yamlencode({
    awsRegion = var.cloud.region
    # The database's password becomes a Kubernetes secret, and follows when RDS changes it. That the driver is installed,
    # and asks for Pod Identity's tokens, is in the chart's own values, which these are merged into.
    "secrets-store-csi-driver" = { syncSecret = { enabled = true }, enableSecretRotation = true, rotationPollInterval = "10m" }
  })]
}

resource "kubernetes_storage_class_v1" "gp3" {
  metadata {
    name        = "gp3"
    annotations = { "storageclass.kubernetes.io/is-default-class" = "true" }
  }

  storage_provisioner    = "ebs.csi.aws.com"
  volume_binding_mode    = "WaitForFirstConsumer"
  allow_volume_expansion = true
  parameters             = { type = "gp3", encrypted = "true" }
}

# Lustre, where there is some, as a volume that stages may mount.
resource "kubernetes_persistent_volume_v1" "lustre" {
  count = var.cloud.lustre == null ? 0 : 1

  metadata {
    name = "${var.cloud.name}-scratch"
  }

  spec {
    capacity                         = { storage = "${var.cloud.lustre.gib}Gi" }
    access_modes                     = ["ReadWriteMany"]
    persistent_volume_reclaim_policy = "Retain"
    storage_class_name               = "lustre"
    mount_options                    = ["flock"]

    persistent_volume_source {
      csi {
        driver        = "fsx.csi.aws.com"
        volume_handle = var.cloud.lustre.id
        volume_attributes = {
          dnsname   = var.cloud.lustre.dns_name
          mountname = var.cloud.lustre.mount_name
        }
      }
    }
  }
}

resource "kubernetes_persistent_volume_claim_v1" "lustre" {
  count = var.cloud.lustre == null ? 0 : 1

  metadata {
    name      = "scratch"
    namespace = kubernetes_namespace_v1.jobs.metadata[0].name
  }

  spec {
    access_modes       = ["ReadWriteMany"]
    storage_class_name = "lustre"
    volume_name        = kubernetes_persistent_volume_v1.lustre[0].metadata[0].name

    resources {
      requests = { storage = "${var.cloud.lustre.gib}Gi" }
    }
  }
}
