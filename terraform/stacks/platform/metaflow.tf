# Metaflow's service, which keeps what ran, and its page. Neither has a login: both are reached from inside the cluster,
# and from people's machines by a port-forward, which Kubernetes' rights allow or do not.

locals {
  database_secret = "metaflow-database"

  # The two are the same image, started differently.
  metaflow = {
    service = {
      name     = "metaflow-service"
      port     = 8080
      replicas = 2
      module   = "services.metadata_service.server"
      # It asks the database: after a change of password it fails, and the container that starts next has the new one.
      alive = "/healthcheck"
      env   = { MF_METADATA_PORT = "8080", MF_METADATA_HOST = "0.0.0.0" }
    }
    ui = {
      name     = "metaflow-ui"
      port     = 8083
      replicas = 1
      module   = "services.ui_backend_service.ui_server"
      # Its metadata part answers the same question.
      alive = "/metadata/healthcheck"
      env = {
        MF_UI_METADATA_PORT           = "8083"
        UI_ENABLED                    = "1"
        MF_DATASTORE_ROOT             = var.cloud.artifacts.metaflow_root
        METAFLOW_DATASTORE_SYSROOT_S3 = var.cloud.artifacts.metaflow_root
        METAFLOW_DEFAULT_DATASTORE    = "s3"
        METAFLOW_DEFAULT_METADATA     = "service"
        METAFLOW_SERVICE_URL          = local.service_internal_url
        AWS_REGION                    = var.cloud.region
      }
    }
  }

  database_env = {
    MF_METADATA_DB_HOST     = var.cloud.database.host
    MF_METADATA_DB_PORT     = "5432"
    MF_METADATA_DB_USER     = var.cloud.database.user
    MF_METADATA_DB_NAME     = var.cloud.database.name
    MF_METADATA_DB_SSL_MODE = "require"
  }

  service_internal_url = "http://metaflow-service.${var.cloud.metaflow_namespace}.svc.cluster.local:8080"
}

resource "kubernetes_service_account_v1" "metaflow" {
  for_each = local.metaflow

  metadata {
    name      = each.value.name
    namespace = kubernetes_namespace_v1.metaflow.metadata[0].name
  }
}

# The database's tables, before the service starts. A job, and not a part of the service's pods: two of those that start
# at once would both migrate an empty database, and one of them would fail on what the other has just made.
resource "kubernetes_job_v1" "migrate" {
  metadata {
    # Another version of the image has migrations of its own, and a job cannot be changed.
    name      = "metaflow-migrate-${substr(sha256(local.images.metaflow_service), 0, 8)}"
    namespace = kubernetes_namespace_v1.metaflow.metadata[0].name
  }

  spec {
    completions   = 1
    parallelism   = 1
    backoff_limit = 6

    template {
      metadata {
        labels = { "app.kubernetes.io/name" = "metaflow-migrate" }
      }

      spec {
        service_account_name            = kubernetes_service_account_v1.metaflow["service"].metadata[0].name
        automount_service_account_token = false
        enable_service_links            = false
        node_selector                   = local.system_nodes
        restart_policy                  = "Never"

        container {
          name    = "migrate"
          image   = local.images.metaflow_service
          command = ["/opt/latest/bin/python3", "/root/run_goose.py"]

          dynamic "env" {
            for_each = local.database_env
            content {
              name  = env.key
              value = env.value
            }
          }

          env {
            name = "MF_METADATA_DB_PSWD"
            value_from {
              secret_key_ref {
                name = local.database_secret
                key  = "password"
              }
            }
          }

          # The Kubernetes secret is made when a pod mounts this, and is there as long as one does.
          volume_mount {
            name       = "database"
            mount_path = "/mnt/database"
            read_only  = true
          }

          resources {
            requests = { cpu = "100m", memory = "256Mi" }
            limits   = { memory = "512Mi" }
          }

          security_context {
            allow_privilege_escalation = false
            capabilities {
              drop = ["ALL"]
            }
          }
        }

        volume {
          name = "database"
          csi {
            driver            = "secrets-store.csi.k8s.io"
            read_only         = true
            volume_attributes = { secretProviderClass = local.database_secret }
          }
        }
      }
    }
  }

  wait_for_completion = true

  timeouts {
    create = "10m"
    update = "10m"
  }

  depends_on = [helm_release.resources]
}

resource "kubernetes_deployment_v1" "metaflow" {
  for_each = local.metaflow

  metadata {
    name      = each.value.name
    namespace = kubernetes_namespace_v1.metaflow.metadata[0].name
    labels    = { "app.kubernetes.io/name" = each.value.name }
  }

  spec {
    replicas = each.value.replicas

    selector {
      match_labels = { "app.kubernetes.io/name" = each.value.name }
    }

    template {
      metadata {
        labels = { "app.kubernetes.io/name" = each.value.name }
      }

      spec {
        service_account_name            = kubernetes_service_account_v1.metaflow[each.key].metadata[0].name
        automount_service_account_token = false
        enable_service_links            = false
        node_selector                   = local.system_nodes

        container {
          name    = each.value.name
          image   = local.images.metaflow_service
          command = ["/opt/latest/bin/python3", "-m", each.value.module]

          port {
            name           = "http"
            container_port = each.value.port
          }

          dynamic "env" {
            for_each = merge(local.database_env, each.value.env)
            content {
              name  = env.key
              value = env.value
            }
          }

          env {
            name = "MF_METADATA_DB_PSWD"
            value_from {
              secret_key_ref {
                name = local.database_secret
                key  = "password"
              }
            }
          }

          volume_mount {
            name       = "database"
            mount_path = "/mnt/database"
            read_only  = true
          }

          readiness_probe {
            http_get {
              path = "/ping"
              port = "http"
            }
            initial_delay_seconds = 5
            period_seconds        = 10
          }

          liveness_probe {
            http_get {
              path = each.value.alive
              port = "http"
            }
            initial_delay_seconds = 60
            period_seconds        = 30
            timeout_seconds       = 10
            failure_threshold     = 6
          }

          resources {
            requests = { cpu = "250m", memory = each.key == "ui" ? "1Gi" : "512Mi" }
            limits   = { memory = each.key == "ui" ? "4Gi" : "1Gi" }
          }

          # The image keeps its files in root's home, so it cannot run as another user.
          security_context {
            allow_privilege_escalation = false
            capabilities {
              drop = ["ALL"]
            }
          }
        }

        volume {
          name = "database"
          csi {
            driver            = "secrets-store.csi.k8s.io"
            read_only         = true
            volume_attributes = { secretProviderClass = local.database_secret }
          }
        }
      }
    }
  }

  depends_on = [kubernetes_job_v1.migrate]
}

resource "kubernetes_service_v1" "metaflow" {
  for_each = local.metaflow

  metadata {
    name      = each.value.name
    namespace = kubernetes_namespace_v1.metaflow.metadata[0].name
  }

  spec {
    type     = "ClusterIP"
    selector = { "app.kubernetes.io/name" = each.value.name }

    port {
      name        = "http"
      port        = each.value.port
      target_port = "http"
    }
  }
}

# Runs reach the service and not the page; the page reaches the service. A port-forward does not pass here.
resource "kubernetes_network_policy_v1" "metaflow" {
  metadata {
    name      = "service-to-runs"
    namespace = kubernetes_namespace_v1.metaflow.metadata[0].name
  }

  spec {
    pod_selector {}
    policy_types = ["Ingress"]

    ingress {
      from {
        namespace_selector {
          match_labels = { "kubernetes.io/metadata.name" = var.cloud.task.namespace }
        }
      }
      from {
        pod_selector {
          match_labels = { "app.kubernetes.io/name" = "metaflow-ui" }
        }
      }
      ports {
        protocol = "TCP"
        port     = "8080"
      }
    }
  }
}
