# Metaflow's whole configuration, by the names that metaflow/metaflow_config.py reads. `longhaul cloud configure` makes a
# profile of it.
output "metaflow_config" {
  description = "Metaflow's configuration for this installation."
  value = {
    METAFLOW_DEFAULT_DATASTORE    = "s3"
    METAFLOW_DATASTORE_SYSROOT_S3 = var.cloud.artifacts.metaflow_root
    METAFLOW_DATATOOLS_S3ROOT     = "${var.cloud.artifacts.metaflow_root}/data"
    METAFLOW_CARD_S3ROOT          = "${var.cloud.artifacts.metaflow_root}/mf.cards"
    # No METAFLOW_S3_SERVER_SIDE_ENCRYPTION: with it S3 would take AWS's key instead of the bucket's own, which is refused.

    METAFLOW_DEFAULT_METADATA     = "service"
    METAFLOW_SERVICE_URL          = var.service_url
    METAFLOW_SERVICE_INTERNAL_URL = local.service_internal_url
    METAFLOW_UI_URL               = var.ui_url

    METAFLOW_KUBERNETES_NAMESPACE          = var.cloud.task.namespace
    METAFLOW_KUBERNETES_SERVICE_ACCOUNT    = var.cloud.task.service_account
    METAFLOW_KUBERNETES_CONTAINER_REGISTRY = var.cloud.registry
    METAFLOW_KUBERNETES_CONTAINER_IMAGE    = "${trimprefix(var.cloud.repositories["gpu"], "${var.cloud.registry}/")}:${var.image_tag}"
    METAFLOW_KUBERNETES_GPU_VENDOR         = "nvidia"

    METAFLOW_DEFAULT_SECRETS_BACKEND_TYPE       = "aws-secrets-manager"
    METAFLOW_AWS_SECRETS_MANAGER_DEFAULT_REGION = var.cloud.region

    METAFLOW_ARGO_WORKFLOWS_UI_URL            = var.argo_ui_url
    METAFLOW_ARGO_WORKFLOWS_USE_SCHEDULES     = "true"
    METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT      = local.events.service_account
    METAFLOW_ARGO_EVENTS_EVENT_BUS            = local.events.bus
    METAFLOW_ARGO_EVENTS_EVENT_SOURCE         = local.events.source
    METAFLOW_ARGO_EVENTS_EVENT                = local.events.event
    METAFLOW_ARGO_EVENTS_SENSOR_NAMESPACE     = var.cloud.task.namespace
    METAFLOW_ARGO_EVENTS_WEBHOOK_URL          = "http://localhost:${local.events.port}/${local.events.event}"
    METAFLOW_ARGO_EVENTS_INTERNAL_WEBHOOK_URL = "http://${local.events.source}-eventsource-svc.${var.cloud.task.namespace}.svc.cluster.local:${local.events.port}/${local.events.event}"
    METAFLOW_ARGO_EVENTS_WEBHOOK_AUTH         = "none"
  }

  depends_on = [kubernetes_service_v1.metaflow]
}

output "task_secret" {
  description = "What to name in the recipe's secrets: Metaflow's @secrets reads tokens from there."
  value       = var.cloud.task_secret_name
}

output "store" {
  description = "The recipe's store, for its `store:` key."
  value       = var.cloud.artifacts.store
}

output "scratch_claim" {
  description = "The claim on Lustre that stages may mount, where there is one."
  value       = one(kubernetes_persistent_volume_claim_v1.lustre[*].metadata[0].name)
}

output "sandbox_namespace" {
  description = "Where to apply infra/sandbox/deploy/kubernetes.yaml, where there is a namespace for it."
  value       = one(kubernetes_namespace_v1.sandbox[*].metadata[0].name)
}

output "forward_ports" {
  description = "Commands that bring the services to this machine, each to be left running."
  value = concat([
    "kubectl -n ${var.cloud.metaflow_namespace} port-forward service/metaflow-service 8080",
    "kubectl -n ${var.cloud.metaflow_namespace} port-forward service/metaflow-ui 8083",
    "kubectl -n argo port-forward service/argo-workflows-server 2746",
    "kubectl -n ${var.cloud.task.namespace} port-forward service/${local.events.source}-eventsource-svc ${local.events.port}",
    ], [for service in kubernetes_service_v1.page :
    "kubectl -n ${service.metadata[0].namespace} port-forward service/${service.metadata[0].name} ${local.page_port}"
  ])
}

output "page_url" {
  description = "Where the lineage page is, where there is one."
  value       = var.page == null ? null : local.page_ingress == null ? "http://localhost:${local.page_port}" : "${local.page_ingress.tls_secret == null ? "http" : "https"}://${local.page_ingress.host}"
}

output "make_page_token" {
  description = "The command that makes the page's token, where there is a page: its pod waits for it."
  value       = one([for namespace in kubernetes_namespace_v1.services : "openssl rand -hex 32 | tr -d '\\n' | kubectl -n ${namespace.metadata[0].name} create secret generic ${var.page.token_secret} --from-file=token=/dev/stdin" if var.page != null])
}
