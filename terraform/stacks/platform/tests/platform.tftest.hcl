mock_provider "kubernetes" {}
mock_provider "helm" {}

variables {
  cloud = {
    name       = "longhaul"
    region     = "us-east-1"
    account_id = "123456789012"
    cluster = {
      name                  = "longhaul"
      endpoint              = "https://mock.eks.amazonaws.com"
      certificate_authority = "bW9jaw=="
      version               = "1.35"
      developer_group       = "longhaul:developers"
    }
    task               = { namespace = "longhaul", service_account = "longhaul-task" }
    metaflow_namespace = "metaflow"
    services           = { namespace = "longhaul-services", page_actions = true, scheduler = true }
    artifacts = {
      store         = "s3://artifacts/longhaul/store"
      metaflow_root = "s3://artifacts/longhaul/metaflow"
    }
    database = {
      host       = "mock.rds.amazonaws.com"
      name       = "metaflow"
      user       = "metaflow"
      secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds"
    }
    task_secret_name = "longhaul/task"
    registry         = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    repositories     = { gpu = "123456789012.dkr.ecr.us-east-1.amazonaws.com/longhaul/gpu" }
    efa              = true
    lustre           = { id = "fs-1", dns_name = "fs-1.fsx.us-east-1.amazonaws.com", mount_name = "abc", gib = 4800 }
  }
}

run "tells_metaflow_everything_and_gives_nobody_more_than_needed" {
  assert {
    condition     = output.metaflow_config.METAFLOW_DEFAULT_DATASTORE == "s3" && output.metaflow_config.METAFLOW_DATASTORE_SYSROOT_S3 == "s3://artifacts/longhaul/metaflow"
    error_message = "Artifacts must go to the bucket."
  }
  assert {
    condition     = output.metaflow_config.METAFLOW_DEFAULT_METADATA == "service" && output.metaflow_config.METAFLOW_SERVICE_INTERNAL_URL == "http://metaflow-service.metaflow.svc.cluster.local:8080"
    error_message = "Pods must find the service by its name in the cluster."
  }
  assert {
    condition     = output.metaflow_config.METAFLOW_KUBERNETES_NAMESPACE == "longhaul" && output.metaflow_config.METAFLOW_KUBERNETES_SERVICE_ACCOUNT == "longhaul-task"
    error_message = "Tasks must run as the account that has their role."
  }
  assert {
    condition     = output.metaflow_config.METAFLOW_KUBERNETES_CONTAINER_IMAGE == "longhaul/gpu:0.1.0" && output.metaflow_config.METAFLOW_KUBERNETES_CONTAINER_REGISTRY == "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    error_message = "Metaflow puts the registry before the image: it must not be in both."
  }
  assert {
    condition     = output.metaflow_config.METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT == kubernetes_service_account_v1.events.metadata[0].name && output.metaflow_config.METAFLOW_ARGO_EVENTS_SENSOR_NAMESPACE == "longhaul"
    error_message = "Sensors must run as the account that may start workflows."
  }
  assert {
    condition     = output.metaflow_config.METAFLOW_ARGO_EVENTS_INTERNAL_WEBHOOK_URL == "http://argo-events-webhook-eventsource-svc.longhaul.svc.cluster.local:12000/metaflow-event"
    error_message = "Tasks must publish events to the event source of the chart."
  }
  assert {
    condition     = !contains(keys(output.metaflow_config), "METAFLOW_S3_SERVER_SIDE_ENCRYPTION")
    error_message = "Asking for encryption without naming the key takes AWS's key, which the bucket refuses."
  }
  assert {
    condition     = alltrue([for name, value in output.metaflow_config : startswith(name, "METAFLOW_") && can(tostring(value)) && value != ""])
    error_message = "A profile holds names that begin with METAFLOW_, and texts."
  }

  # The other outputs.
  assert {
    condition     = output.task_secret == "longhaul/task" && output.store == "s3://artifacts/longhaul/store"
    error_message = "Recipes need the secret's name and the store."
  }
  assert {
    condition     = output.scratch_claim == "scratch" && output.sandbox_namespace == "longhaul-sandbox"
    error_message = "Deployments need the claim and the sandbox's namespace."
  }
  assert {
    condition     = length(output.forward_ports) == 4
    error_message = "People need a way to each of the four services."
  }

  assert {
    condition     = alltrue([for chart in local.charts : can(regex("^v?[0-9]+\\.[0-9]+\\.[0-9]+$", chart.version))])
    error_message = "Each chart has one version, no range."
  }
  assert {
    condition     = length(helm_release.nvidia_plugin) == 1 && length(helm_release.dcgm_exporter) == 1 && length(helm_release.gpu_operator) == 0 && length(helm_release.efa_plugin) == 1
    error_message = "GPUs and EFA must be there to ask for, and measured."
  }
  assert {
    condition     = length(helm_release.kuberay) == 0
    error_message = "KubeRay is installed only where asked for."
  }
  assert {
    condition     = length(kubernetes_network_policy_v1.jobs.spec[0].ingress) == 1
    error_message = "Without KubeRay, pods of a run are reached from nowhere else."
  }
  assert {
    condition     = yamldecode(helm_release.cluster_autoscaler.values[0]).rbac.serviceAccount.name == "cluster-autoscaler" && yamldecode(helm_release.cluster_autoscaler.values[0]).autoDiscovery.clusterName == "longhaul"
    error_message = "The autoscaler must have the account with the role, and find its own cluster's groups."
  }
  assert {
    condition     = yamldecode(helm_release.argo_workflows.values[0]).controller.extraArgs == ["--namespaced", "--managed-namespace", "longhaul"] && yamldecode(helm_release.argo_workflows.values[0]).server.authModes == ["client"]
    error_message = "Argo must run the one namespace's workflows, and act for nobody but who asks."
  }
  assert {
    condition     = yamldecode(helm_release.argo_workflows.values[0]).server.rbac.create == false && !anytrue([for role in kubernetes_role_v1.argo_server : contains(role.rule[0].resources, "secrets")])
    error_message = "Argo's server must not be able to read secrets in its own name."
  }
  assert {
    condition     = yamldecode(helm_release.argo_events.values[0]).configs.jetstream.versions[*].version == [yamldecode(helm_release.resources.values[0]).events.nats]
    error_message = "The bus must ask for the version that the controller knows."
  }
  assert {
    condition     = !strcontains(yamldecode(helm_release.jobset.values[0]).image.repository, "staging")
    error_message = "JobSet must not be pulled from a staging registry."
  }

  assert {
    condition     = alltrue([for deployment in kubernetes_deployment_v1.metaflow : !deployment.spec[0].template[0].spec[0].automount_service_account_token])
    error_message = "Metaflow's service has no business with Kubernetes."
  }
  assert {
    condition     = anytrue([for env in kubernetes_deployment_v1.metaflow["service"].spec[0].template[0].spec[0].container[0].env : env.name == "MF_METADATA_DB_PSWD" && env.value == null])
    error_message = "The password must come from the secret and not stand in the deployment."
  }
  assert {
    condition     = anytrue([for env in kubernetes_deployment_v1.metaflow["service"].spec[0].template[0].spec[0].container[0].env : env.name == "MF_METADATA_DB_SSL_MODE" && env.value == "require"])
    error_message = "The database must be reached by TLS."
  }
  assert {
    condition     = alltrue(flatten([for rule in kubernetes_role_v1.task.rule : [for resource in rule.resources : contains(["workflowtaskresults", "jobsets"], resource)]]))
    error_message = "A task must have no more rights in the cluster than to report itself and to start its JobSet."
  }
  assert {
    condition     = alltrue(flatten([for role in [kubernetes_role_v1.task, kubernetes_role_v1.developer, kubernetes_role_v1.events] : [for rule in role.rule : !contains(rule.verbs, "*") && !contains(rule.resources, "secrets")]]))
    error_message = "None of the stack's roles may do everything, or read secrets."
  }
  assert {
    condition     = kubernetes_namespace_v1.sandbox[0].metadata[0].labels["pod-security.kubernetes.io/enforce"] == "privileged" && kubernetes_namespace_v1.jobs.metadata[0].labels["pod-security.kubernetes.io/enforce"] == "baseline"
    error_message = "Only the sandbox's namespace may hold privileged pods."
  }
}

run "leaves_out_what_is_not_asked_for" {
  command = plan
  variables {
    gpu_software      = "gpu-operator"
    sandbox_namespace = null
    kuberay           = true
  }
  assert {
    condition     = length(helm_release.gpu_operator) == 1 && length(helm_release.nvidia_plugin) == 0 && length(helm_release.dcgm_exporter) == 0
    error_message = "The operator brings a device plugin and DCGM of its own: two would fight."
  }
  assert {
    condition     = yamldecode(helm_release.gpu_operator[0].values[0]).driver.enabled == false && yamldecode(helm_release.gpu_operator[0].values[0]).toolkit.enabled == false
    error_message = "The node image has driver and toolkit: the operator must bring neither."
  }
  assert {
    condition     = alltrue([for part in ["master", "gc"] : yamldecode(helm_release.gpu_operator[0].values[0])["node-feature-discovery"][part].nodeSelector == local.system_nodes])
    error_message = "What is not on each node must stay on the nodes that are always there."
  }
  assert {
    condition     = length(kubernetes_network_policy_v1.jobs.spec[0].ingress) == 2
    error_message = "KubeRay's operator must reach the Ray clusters that it starts."
  }
  assert {
    condition     = length(kubernetes_namespace_v1.services) == 0 && length(kubernetes_deployment_v1.page) == 0 && length(kubernetes_deployment_v1.scheduler) == 0 && output.page_url == null && output.make_page_token == null
    error_message = "Neither page nor scheduler is there where none is asked for."
  }
  assert {
    condition     = length(kubernetes_namespace_v1.sandbox) == 0 && length(helm_release.kuberay) == 1 && output.sandbox_namespace == null
    error_message = "No namespace for a sandbox that runs elsewhere."
  }
}

run "refuses_what_would_break_later" {
  command = plan
  variables {
    gpu_software      = "both"
    sandbox_namespace = "longhaul"
    image_tag         = "latest"
    service_url       = "localhost:8080/"
  }
  expect_failures = [var.gpu_software, var.sandbox_namespace, var.image_tag, var.service_url]
}

run "serves_the_page_behind_the_ingress_with_a_token_and_no_rights" {
  command = plan
  variables {
    page = {
      image   = "123456789012.dkr.ecr.us-east-1.amazonaws.com/longhaul/cpu:0.1.0-services"
      ingress = { host = "runs.example.com", class = "nginx", namespace = "ingress-nginx", tls_secret = "runs-tls" }
    }
  }
  assert {
    condition = local.page_command == [
      "python", "-m", "flows.cli", "lineage", "serve", "--store", "s3://artifacts/longhaul/store", "--host", "0.0.0.0",
      "--port", "8600", "--token-file", "/run/secrets/longhaul/token", "--allow-host", "runs.example.com",
    ]
    error_message = "The page must take the token from the secret, answer to the ingress's name, and allow no actions."
  }
  assert {
    condition     = kubernetes_ingress_v1.page[0].spec[0].rule[0].host == "runs.example.com" && kubernetes_ingress_v1.page[0].spec[0].tls[0].secret_name == "runs-tls" && output.page_url == "https://runs.example.com"
    error_message = "The ingress must lead to the page, by TLS."
  }
  assert {
    condition = alltrue([
      kubernetes_deployment_v1.page[0].spec[0].template[0].spec[0].security_context[0].run_as_non_root,
      kubernetes_deployment_v1.page[0].spec[0].template[0].spec[0].container[0].security_context[0].read_only_root_filesystem,
      !kubernetes_deployment_v1.page[0].spec[0].template[0].spec[0].container[0].security_context[0].allow_privilege_escalation,
      !kubernetes_deployment_v1.page[0].spec[0].template[0].spec[0].automount_service_account_token,
      kubernetes_deployment_v1.page[0].spec[0].template[0].spec[0].container[0].resources[0].limits.memory == "2Gi",
      kubernetes_namespace_v1.services[0].metadata[0].labels["pod-security.kubernetes.io/enforce"] == "restricted",
    ])
    error_message = "The page must run without privileges, within limits, on a root that it cannot write to."
  }
  assert {
    condition     = kubernetes_deployment_v1.page[0].spec[0].template[0].spec[0].volume[2].secret[0].secret_name == "longhaul-page-token" && strcontains(output.make_page_token, "-n longhaul-services create secret generic longhaul-page-token --from-file=token")
    error_message = "An output must say how to make the secret that the page mounts."
  }
  assert {
    condition     = one(kubernetes_network_policy_v1.services[0].spec[0].ingress).from[0].namespace_selector[0].match_labels["kubernetes.io/metadata.name"] == "ingress-nginx"
    error_message = "Nothing but the ingress's controller may reach the page."
  }
  assert {
    condition     = length(output.forward_ports) == 5 && contains(keys(kubernetes_role_v1.forward), "longhaul-services")
    error_message = "Developers must be able to forward the page's port."
  }
}

run "runs_a_scheduler_instead_of_argos_schedules" {
  command = plan
  variables {
    page           = { image = "registry/longhaul/cpu:0.1.0-services", allow_actions = true }
    argo_schedules = false
    scheduler = {
      image   = "registry/longhaul/gpu:0.1.0-services"
      recipes = { nano = "store: s3://artifacts/longhaul/store\nschedule: {cron: '@daily'}\n" }
      pool    = "train"
      gpus    = 1
    }
  }
  assert {
    condition     = join(" ", local.scheduler_command) == "python -m flows.cli schedule run --config /run/longhaul/nano.yaml" && contains(keys(kubernetes_config_map_v1.recipes[0].data), "nano.yaml")
    error_message = "The scheduler must run the recipes that its config map holds."
  }
  assert {
    condition     = kubernetes_deployment_v1.scheduler[0].spec[0].replicas == "1" && kubernetes_deployment_v1.scheduler[0].spec[0].strategy[0].type == "Recreate"
    error_message = "Two schedulers would run each recipe twice."
  }
  assert {
    condition     = kubernetes_deployment_v1.scheduler[0].spec[0].template[0].spec[0].container[0].resources[0].limits["nvidia.com/gpu"] == "1" && length(kubernetes_deployment_v1.scheduler[0].spec[0].template[0].spec[0].toleration) == 1
    error_message = "A scheduler with a GPU must get one."
  }
  assert {
    condition     = alltrue([for rule in kubernetes_role_v1.developer.rule : !contains(rule.resources, "cronworkflows") || length(setintersection(rule.verbs, ["create", "update", "patch"])) == 0])
    error_message = "With a scheduler, developers must not be able to make CronWorkflows too."
  }
  assert {
    condition     = local.page_command[length(local.page_command) - 1] == "--allow-actions" && length(kubernetes_ingress_v1.page) == 0 && output.page_url == "http://localhost:8600" && length(kubernetes_network_policy_v1.services[0].spec[0].ingress) == 0
    error_message = "Actions are there where asked for; without an ingress nothing reaches the page but a port-forward."
  }
}

run "refuses_both_kinds_of_schedules_and_recipes_that_cannot_run" {
  command = plan
  variables {
    page = { image = "longhaul:latest", ingress = { host = "https://runs", class = "nginx", namespace = "ingress-nginx" } }
    scheduler = {
      image   = "registry/longhaul/cpu:0.1.0-services"
      recipes = { nano = "store: .longhaul/store\n" }
    }
  }
  expect_failures = [var.page, var.scheduler]
}
