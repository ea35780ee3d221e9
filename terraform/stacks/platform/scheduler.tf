# The scheduler of one machine (docs/schedules.md), as a pod: it runs whole recipes in itself, one at a time. Argo's
# CronWorkflows are the usual way on a cluster, since each stage gets nodes of its own there; this one looks at the data
# before it starts anything, and suits recipes that fit one node.

locals {
  scheduler_labels = { "app.kubernetes.io/name" = "longhaul-scheduler" }
  scheduler_files  = { for name, text in try(var.scheduler.recipes, {}) : "${name}.yaml" => text }

  # tests/terraform/test_services.py runs this very command.
  scheduler_command = concat(
    ["python", "-m", "flows.cli", "schedule", "run"],
    flatten([for file in keys(local.scheduler_files) : ["--config", "/run/longhaul/${file}"]]),
  )
}

resource "kubernetes_service_account_v1" "scheduler" {
  count = var.scheduler == null ? 0 : 1

  metadata {
    name      = "scheduler"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
  }
}

resource "kubernetes_config_map_v1" "recipes" {
  count = var.scheduler == null ? 0 : 1

  metadata {
    name      = "longhaul-recipes"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
  }

  data = local.scheduler_files
}

# What times passed, which run is on, and checkpoints: an interrupted run resumes from there.
resource "kubernetes_persistent_volume_claim_v1" "scheduler" {
  count = var.scheduler == null ? 0 : 1

  metadata {
    name      = "longhaul-scheduler"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
  }

  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = kubernetes_storage_class_v1.gp3.metadata[0].name
    resources {
      requests = { storage = var.scheduler.disk }
    }
  }

  # The volume is made once the pod is placed.
  wait_until_bound = false
}

resource "kubernetes_deployment_v1" "scheduler" {
  count = var.scheduler == null ? 0 : 1

  metadata {
    name      = "longhaul-scheduler"
    namespace = kubernetes_namespace_v1.services[0].metadata[0].name
    labels    = local.scheduler_labels
  }

  spec {
    # Two would run each recipe twice.
    replicas = 1
    strategy {
      type = "Recreate"
    }

    selector {
      match_labels = local.scheduler_labels
    }

    template {
      metadata {
        labels      = local.scheduler_labels
        annotations = { "cluster-autoscaler.kubernetes.io/safe-to-evict" = "false" }
      }

      spec {
        service_account_name            = kubernetes_service_account_v1.scheduler[0].metadata[0].name
        automount_service_account_token = false
        enable_service_links            = false
        node_selector                   = { "longhaul/pool" = var.scheduler.pool }
        # A run that is stopped has 30 s to end, and the last copy of its checkpoints takes up to 90 s.
        termination_grace_period_seconds = 120

        dynamic "toleration" {
          for_each = var.scheduler.gpus > 0 ? local.gpu_toleration : []
          content {
            key      = toleration.value.key
            operator = toleration.value.operator
            effect   = toleration.value.effect
          }
        }

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
          name    = "scheduler"
          image   = var.scheduler.image
          command = local.scheduler_command

          env {
            name  = "AWS_REGION"
            value = var.cloud.region
          }
          env {
            name  = "LONGHAUL_HOME"
            value = "/var/lib/longhaul"
          }
          # Caches of packages, and what Metaflow keeps, for the root is read-only.
          env {
            name  = "HOME"
            value = "/var/lib/longhaul"
          }

          dynamic "env_from" {
            for_each = var.scheduler.secret == null ? [] : [var.scheduler.secret]
            content {
              secret_ref {
                name = env_from.value
              }
            }
          }

          volume_mount {
            name       = "home"
            mount_path = "/var/lib/longhaul"
          }
          volume_mount {
            name       = "tmp"
            mount_path = "/tmp"
          }
          volume_mount {
            name       = "recipes"
            mount_path = "/run/longhaul"
            read_only  = true
          }

          resources {
            requests = merge(
              { cpu = var.scheduler.cpu, memory = var.scheduler.memory },
              var.scheduler.gpus > 0 ? { "nvidia.com/gpu" = tostring(var.scheduler.gpus) } : {},
            )
            limits = merge(
              { memory = var.scheduler.memory },
              var.scheduler.gpus > 0 ? { "nvidia.com/gpu" = tostring(var.scheduler.gpus) } : {},
            )
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
          persistent_volume_claim {
            claim_name = kubernetes_persistent_volume_claim_v1.scheduler[0].metadata[0].name
          }
        }
        volume {
          name = "tmp"
          empty_dir {}
        }
        volume {
          name = "recipes"
          config_map {
            name = kubernetes_config_map_v1.recipes[0].metadata[0].name
          }
        }
      }
    }
  }

  wait_for_rollout = false
}
