output "platform_input" {
  description = "The platform stack's input: `terraform output -json platform_input > ../platform/cloud.auto.tfvars.json`."
  value = {
    cloud = {
      name       = var.name
      region     = var.region
      account_id = data.aws_caller_identity.this.account_id
      cluster = {
        name                  = module.cluster.name
        endpoint              = module.cluster.endpoint
        certificate_authority = module.cluster.certificate_authority
        version               = var.kubernetes_version
        developer_group       = module.cluster.developer_group
      }
      task               = local.task
      metaflow_namespace = var.metaflow_namespace
      services           = var.services
      artifacts = {
        store         = module.artifacts.store
        metaflow_root = module.artifacts.metaflow_root
      }
      database = {
        host       = module.database.host
        name       = module.database.name
        user       = module.database.user
        secret_arn = module.database.secret_arn
      }
      task_secret_name = module.secrets.task_secret_name
      registry         = module.registry.registry
      repositories     = module.registry.repositories
      efa              = anytrue([for group in var.node_groups : group.efa])
      lustre           = one(module.lustre[*].file_system)
    }
  }
}

output "store" {
  description = "The recipe's store, for its `store:` key."
  value       = module.artifacts.store
}

output "pools" {
  description = "What pods ask for to run in each node group: labels, tolerations, GPUs and EFA interfaces of a node."
  value       = { for name, group in module.node_group : name => group.pool }
}

output "repositories" {
  description = "Where images are pushed to."
  value       = module.registry.repositories
}

output "task_secret_name" {
  description = "The secret to put tokens into."
  value       = module.secrets.task_secret_name
}

output "roles" {
  description = "The roles of service accounts."
  value       = module.identity.roles
}

output "task_policy" {
  description = "Everything that a task can do in AWS."
  value       = module.identity.policies.task
}

output "configure_kubectl" {
  description = "The command that makes kubectl talk to the cluster."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${module.cluster.name}"
}

output "protected" {
  description = "What holds data, by name, and what ../../destroy.sh does with it."
  value = join("\n", concat(
    [
      "bucket ${module.artifacts.bucket}: stops the destroy while anything is in it",
      "database ${module.database.identifier}: deleted, its last snapshot stays (${module.database.final_snapshot})",
      "secret ${module.secrets.task_secret_name}: can be restored for 30 days, and so can the keys",
    ],
    [for repository in values(module.registry.repositories) : "repository ${repository}: stops the destroy while anything is in it"],
  ))
}
