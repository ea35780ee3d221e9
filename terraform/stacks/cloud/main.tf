# Everything in AWS that Longhaul runs on. What runs inside the cluster is the platform stack.

data "aws_caller_identity" "this" {}

locals {
  tags = { project = var.name, size = var.size, "managed-by" = "terraform", stack = "cloud" }

  task = { namespace = var.jobs_namespace, service_account = "${var.jobs_namespace}-task" }
}

# Three keys, so that who may read one kind of thing need not be able to read another.
module "data_key" {
  source = "../../modules/key"

  name        = "${var.name}/data"
  description = "Artifacts of ${var.name}, and the secret of its tasks"
}

module "cluster_key" {
  source = "../../modules/key"

  name        = "${var.name}/cluster"
  description = "Kubernetes secrets, logs and images of ${var.name}"
  for_logs    = true
}

module "database_key" {
  source = "../../modules/key"

  name        = "${var.name}/database"
  description = "Metaflow's database of ${var.name}, and its password"
}

module "network" {
  source = "../../modules/network"

  name                = var.name
  cidr                = var.cidr
  zones               = var.zones
  nat_per_zone        = var.nat_per_zone
  interface_endpoints = var.interface_endpoints
  log_days            = var.log_days
  log_key_arn         = module.cluster_key.arn
}

module "cluster" {
  source = "../../modules/cluster"

  name                  = var.name
  kubernetes_version    = var.kubernetes_version
  control_plane_subnets = values(module.network.closed_subnets)
  api_public_cidrs      = var.api_public_cidrs
  admins                = var.admins
  developers            = var.developers
  key_arn               = module.cluster_key.arn
  log_days              = var.log_days
  addon_versions        = var.addon_versions
  deletion_protection   = var.deletion_protection
}

module "artifacts" {
  source = "../../modules/artifacts"

  bucket  = coalesce(var.artifacts_bucket, "${var.name}-artifacts-${data.aws_caller_identity.this.account_id}")
  prefix  = var.artifacts_prefix
  key_arn = module.data_key.arn
}

module "registry" {
  source = "../../modules/registry"

  name    = var.name
  key_arn = module.cluster_key.arn
}

module "database" {
  source = "../../modules/database"

  name                  = "${var.name}-metaflow"
  instance_class        = var.database.instance_class
  multi_az              = var.database.multi_az
  vpc_id                = module.network.vpc_id
  subnets               = values(module.network.closed_subnets)
  client_security_group = module.cluster.security_group
  key_arn               = module.database_key.arn
  deletion_protection   = var.deletion_protection
}

module "secrets" {
  source = "../../modules/secrets"

  name    = var.name
  key_arn = module.data_key.arn
}

module "identity" {
  source = "../../modules/identity"

  cluster_name        = module.cluster.name
  cluster_arn         = module.cluster.arn
  task                = local.task
  metaflow_namespace  = var.metaflow_namespace
  services            = var.services
  bucket_arn          = module.artifacts.arn
  prefix              = module.artifacts.prefix
  data_key_arn        = module.data_key.arn
  task_secret_arn     = module.secrets.task_secret_arn
  database_secret_arn = module.database.secret_arn
  database_key_arn    = module.database_key.arn
}

module "node_group" {
  source   = "../../modules/node_group"
  for_each = var.node_groups

  name                   = each.key
  pool                   = each.value.pool
  cluster_name           = module.cluster.name
  cluster_security_group = module.cluster.security_group
  node_role_arn          = module.cluster.node_role_arn
  vpc_id                 = module.network.vpc_id
  subnets = {
    for zone in coalesce(each.value.zones, var.zones) : zone => module.network.private_subnets[zone]
  }
  instance_types = each.value.instance_types
  capacity       = each.value.capacity
  reservation_id = each.value.reservation_id
  efa            = each.value.efa
  min_size       = each.value.min_size
  max_size       = each.value.max_size
  disk_gib       = each.value.disk_gib
  tags           = local.tags

  # A node whose network plug-in may not ask EC2 for addresses is never ready.
  depends_on = [module.identity]
}

# These run on nodes, and are not healthy before there are any.
resource "aws_eks_addon" "on_nodes" {
  for_each = setunion(
    ["coredns", "metrics-server", "aws-ebs-csi-driver", "eks-node-monitoring-agent"],
    var.lustre == null ? [] : ["aws-fsx-csi-driver"],
  )

  cluster_name                = module.cluster.name
  addon_name                  = each.key
  addon_version               = lookup(var.addon_versions, each.key, null)
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [module.node_group]
}

module "lustre" {
  source = "../../modules/lustre"
  count  = var.lustre == null ? 0 : 1

  name                  = "${var.name}-scratch"
  vpc_id                = module.network.vpc_id
  subnet                = module.network.private_subnets[var.lustre.zone]
  client_security_group = module.cluster.security_group
  key_arn               = module.data_key.arn
  capacity_gib          = var.lustre.capacity_gib
  throughput            = var.lustre.throughput
}

module "cost" {
  source = "../../modules/cost"

  name            = var.name
  monthly_usd     = var.budget.monthly_usd
  emails          = var.budget.emails
  watch_anomalies = var.budget.watch_anomalies
}
