# Who in the cluster may do what in AWS: one role for each service account, by EKS Pod Identity, with no more than it needs.
#
# A role can be assumed for its own service account of its own cluster alone: Pod Identity says in the session's tags for
# whom it asks, and each role's trust names them.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  partition = data.aws_partition.this.partition
  region    = data.aws_region.this.region
  account   = data.aws_caller_identity.this.account_id

  identities = merge({
    task = merge(var.task, { policy = local.task })
    "metaflow-service" = {
      namespace = var.metaflow_namespace, service_account = "metaflow-service", policy = local.database_secret
    }
    "metaflow-ui" = {
      namespace = var.metaflow_namespace, service_account = "metaflow-ui", policy = concat(local.database_secret, local.read_artifacts)
    }
    "cluster-autoscaler" = {
      namespace = "kube-system", service_account = "cluster-autoscaler", policy = local.autoscaler
    }
    page = {
      namespace       = var.services.namespace
      service_account = "page"
      policy          = concat(local.read_artifacts, [for statement in local.write_records : statement if var.services.page_actions])
    }
    }, { for name in ["scheduler"] : name => {
      namespace = var.services.namespace, service_account = name, policy = local.task
  } if var.services.scheduler })

  # AWS's own controllers, with the policies that AWS keeps for them.
  managed = {
    "vpc-cni" = { service_account = "aws-node", policy = "AmazonEKS_CNI_Policy" }
    "ebs-csi" = { service_account = "ebs-csi-controller-sa", policy = "service-role/AmazonEBSCSIDriverPolicy" }
  }

  who = merge(
    { for name, identity in local.identities : name => { namespace = identity.namespace, service_account = identity.service_account } },
    { for name, identity in local.managed : name => { namespace = "kube-system", service_account = identity.service_account } },
  )
}

resource "aws_iam_role" "this" {
  for_each = local.who

  name = "${var.cluster_name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = var.cluster_arn
          "aws:RequestTag/kubernetes-namespace"       = each.value.namespace
          "aws:RequestTag/kubernetes-service-account" = each.value.service_account
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.identities

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value.policy })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.managed

  role       = aws_iam_role.this[each.key].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value.policy}"
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = local.who

  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.this[each.key].arn

  depends_on = [aws_iam_role_policy.this, aws_iam_role_policy_attachment.this]
}
