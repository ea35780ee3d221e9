# What the stack promises as a whole; each module's own tests are beside it.
mock_provider "aws" {
  source = "../../mocks"
}

variables {
  size   = "test"
  region = "us-east-1"
  zones  = ["use1-az4", "use1-az6"]
  admins = ["arn:aws:iam::123456789012:role/admin"]
  budget = { monthly_usd = 2000, emails = ["you@example.com"] }
  node_groups = {
    system = { pool = "system", instance_types = ["m7i.xlarge"], min_size = 2, max_size = 3 }
    train  = { pool = "train", instance_types = ["p4d.24xlarge"], max_size = 1 }
  }
}

run "costs_no_gpu_while_nothing_runs" {
  variables {
    lustre = { zone = "use1-az6" }
  }
  assert {
    condition     = alltrue([for pool in output.pools : pool.min_size == 0 if pool.gpus > 0])
    error_message = "GPU groups must be able to have no node."
  }
  assert {
    condition     = output.pools["train"].labels["longhaul/pool"] == "train" && output.pools["train"].gpus == 8 && output.pools["train"].tolerations[0].key == "nvidia.com/gpu"
    error_message = "Stages find their nodes by what this output says."
  }

  # Every output.
  assert {
    condition     = output.store == "s3://longhaul-artifacts-123456789012/longhaul/store"
    error_message = "store must be the recipe's store."
  }
  assert {
    condition     = toset(keys(output.repositories)) == toset(["gpu", "cpu", "sandbox"])
    error_message = "repositories must tell where images are pushed to."
  }
  assert {
    condition     = output.task_secret_name != ""
    error_message = "task_secret_name must tell where tokens are put."
  }
  assert {
    condition     = startswith(output.roles["task"], "arn:aws:iam::")
    error_message = "roles must tell each service account's role."
  }
  assert {
    condition     = length(output.task_policy) == 5
    error_message = "task_policy must show all that a task may do: prefix, listing, uploads, key, secret."
  }
  assert {
    condition     = output.configure_kubectl == "aws eks update-kubeconfig --region us-east-1 --name longhaul"
    error_message = "configure_kubectl must be the command."
  }
  assert {
    condition     = output.platform_input.cloud.task == { namespace = "longhaul", service_account = "longhaul-task" } && output.platform_input.cloud.metaflow_namespace == "metaflow" && output.platform_input.cloud.cluster.endpoint == "https://mock.eks.amazonaws.com" && output.platform_input.cloud.database.host == "mock.rds.amazonaws.com" && output.platform_input.cloud.artifacts.store == output.store && output.platform_input.cloud.lustre.gib == 4800 && !output.platform_input.cloud.efa
    error_message = "platform_input must be what the platform stack takes."
  }
  assert {
    condition     = contains(keys(aws_eks_addon.on_nodes), "aws-fsx-csi-driver")
    error_message = "A cluster with Lustre needs its driver."
  }
}

run "refuses_lustre_in_a_zone_without_nodes_and_a_cluster_without_system_nodes" {
  command = plan
  variables {
    lustre      = { zone = "use1-az5" }
    node_groups = { train = { pool = "train", instance_types = ["p4d.24xlarge"], max_size = 1 } }
  }
  expect_failures = [var.lustre, var.node_groups]
}

run "refuses_gpus_that_run_while_nothing_does" {
  command = plan
  variables {
    node_groups = {
      system = { pool = "system", instance_types = ["m7i.xlarge"], min_size = 2, max_size = 3 }
      train  = { pool = "train", instance_types = ["p4d.24xlarge"], min_size = 1, max_size = 1 }
    }
  }
  expect_failures = [var.node_groups]
}

run "refuses_a_group_in_a_zone_that_the_network_has_not" {
  command = plan
  variables {
    node_groups = {
      system = { pool = "system", instance_types = ["m7i.xlarge"], min_size = 2, max_size = 3, zones = ["use1-az2"] }
    }
  }
  expect_failures = [var.node_groups]
}

run "refuses_zones_of_another_region" {
  command = plan
  variables {
    zones = ["eu-west-1a", "eu-west-1b"]
  }
  expect_failures = [var.zones]
}
