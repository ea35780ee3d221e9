# The lineage page (docs/lineage.md): what runs made, from the store in S3. Visitors need the token, which is made by hand
# (output make_page_token), so that neither Terraform nor its state ever holds it.

locals {
  page_port    = 8600
  page_labels  = { "app.kubernetes.io/name" = "longhaul-page" }
  page_ingress = try(var.page.ingress, null)

  # tests/terraform/test_services.py runs this very command.
  page_command = concat(
    ["python", "-m", "flows.cli", "lineage", "serve", "--store", var.cloud.artifacts.store],
    ["--host", "0.0.0.0", "--port", tostring(local.page_port), "--token-file", "/run/secrets/longhaul/token"],
    local.page_ingress == null ? [] : ["--allow-host", local.page_ingress.host],
    try(var.page.allow_actions, false) ? ["--allow-actions"] : [],
  )
}

# Its rights in AWS come by Pod Identity, from the cloud stack; in the cluster it has none.
resource "kubernetes_service_account_v1" "page" {
  count = var.page == null ? 0 : 1

  metadata {
    name      = "page"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
  }
}

resource "kubernetes_deployment_v1" "page" {
  count = var.page == null ? 0 : 1

  metadata {
    name      = "longhaul-page"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
    labels    = local.page_labels
  }

  spec {
    # The confirmation of an action is known to the process that asked for it.
    replicas = 1

    selector {
      match_labels = local.page_labels
    }

    template {
      metadata {
        labels = local.page_labels
      }

      spec {
        service_account_name            = kubernetes_service_account_v1.page[0].metadata[0].name
        automount_service_account_token = false
        enable_service_links            = false
        node_selector                   = local.system_nodes

        security_context {
          run_as_non_root = true
          run_as_user     = 10001
          run_as_group    = 10001
          fs_group        = 10001
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }

        container {
          name    = "page"
          image   = var.page.image
          command = local.page_command

          port {
            name           = "http"
            container_port = local.page_port
          }

          env {
            name  = "AWS_REGION"
            value = var.cloud.region
          }
          env {
            name  = "LONGHAUL_HOME"
            value = "/var/lib/longhaul"
          }

          # The index of the store's records, and what is fetched to be shown. It can be made again at any time.
          volume_mount {
            name       = "home"
            mount_path = "/var/lib/longhaul"
          }
          volume_mount {
            name       = "tmp"
            mount_path = "/tmp"
          }
          volume_mount {
            name       = "token"
            mount_path = "/run/secrets/longhaul"
            read_only  = true
          }

          # The page answers to its own names alone.
          readiness_probe {
            http_get {
              path = "/static/style.css"
              port = "http"
              http_header {
                name  = "Host"
                value = "localhost"
              }
            }
            period_seconds = 10
          }
          liveness_probe {
            http_get {
              path = "/static/style.css"
              port = "http"
              http_header {
                name  = "Host"
                value = "localhost"
              }
            }
            # The first start reads all records of the store.
            initial_delay_seconds = 300
            period_seconds        = 30
            timeout_seconds       = 10
            failure_threshold     = 6
          }

          resources {
            requests = { cpu = "250m", memory = var.page.memory, "ephemeral-storage" = "5Gi" }
            limits   = { memory = var.page.memory, "ephemeral-storage" = "20Gi" }
          }

          security_context {
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            capabilities {
              drop = ["ALL"]
            }
          }
        }

        volume {
          name = "home"
          empty_dir {}
        }
        volume {
          name = "tmp"
          empty_dir {}
        }
        volume {
          name = "token"
          secret {
            secret_name  = var.page.token_secret
            default_mode = "0440"
          }
        }
      }
    }
  }

  # Its pod waits for the token, which is made once the namespace is there.
  wait_for_rollout = false
}

resource "kubernetes_service_v1" "page" {
  count = var.page == null ? 0 : 1

  metadata {
    name      = "longhaul-page"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
  }

  spec {
    type     = "ClusterIP"
    selector = local.page_labels

    port {
      name        = "http"
      port        = local.page_port
      target_port = "http"
    }
  }
}

resource "kubernetes_ingress_v1" "page" {
  count = local.page_ingress == null ? 0 : 1

  metadata {
    name        = "longhaul-page"
    namespace   = kubernetes_namespace_v1.services[0].metadata[0].name
    annotations = local.page_ingress.annotations
  }

  spec {
    ingress_class_name = local.page_ingress.class

    dynamic "tls" {
      for_each = local.page_ingress.tls_secret == null ? [] : [local.page_ingress.tls_secret]
      content {
        hosts       = [local.page_ingress.host]
        secret_name = tls.value
      }
    }

    rule {
      host = local.page_ingress.host
      http {
        path {
          path      = "/"
          path_type = "Prefix"
          backend {
            service {
              name = kubernetes_service_v1.page[0].metadata[0].name
              port {
                name = "http"
              }
            }
          }
        }
      }
    }
  }
}

# The ingress's controller reaches the page, and nothing reaches the scheduler. A port-forward does not pass here.
resource "kubernetes_network_policy_v1" "services" {
  count = length(kubernetes_namespace_v1.services)

  metadata {
    name      = "ingress-to-page"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
  }

  spec {
    pod_selector {}
    policy_types = ["Ingress"]

    dynamic "ingress" {
      for_each = local.page_ingress == null ? [] : [local.page_ingress.namespace]
      content {
        from {
          namespace_selector {
            match_labels = { "kubernetes.io/metadata.name" = ingress.value }
          }
          pod_selector {}
        }
        ports {
          protocol = "TCP"
          port     = tostring(local.page_port)
        }
      }
    }
  }
}
