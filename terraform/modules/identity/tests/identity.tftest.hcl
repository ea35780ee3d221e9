mock_provider "aws" {
  source = "../../mocks"
}

variables {
  cluster_name        = "longhaul"
  cluster_arn         = "arn:aws:eks:us-east-1:123456789012:cluster/longhaul"
  task                = { namespace = "longhaul", service_account = "longhaul-task" }
  metaflow_namespace  = "metaflow"
  services            = { namespace = "longhaul-services", page_actions = false, scheduler = false }
  bucket_arn          = "arn:aws:s3:::artifacts"
  prefix              = "longhaul"
  data_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/data"
  task_secret_arn     = "arn:aws:secretsmanager:us-east-1:123456789012:secret:task"
  database_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:database"
  database_key_arn    = "arn:aws:kms:us-east-1:123456789012:key/database"
}

run "lets_a_task_reach_one_prefix_one_key_and_one_secret" {
  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.this["task"].policy).Statement : statement.Resource])) == toset([
      "arn:aws:s3:::artifacts", "arn:aws:s3:::artifacts/longhaul/*", var.data_key_arn, var.task_secret_arn,
    ])
    error_message = "A task's policy names the bucket's prefix, the key and the secret, and nothing else."
  }
  assert {
    condition = alltrue([for statement in jsondecode(aws_iam_role_policy.this["task"].policy).Statement :
      contains(keys(statement), "Condition") || statement.Action == ["s3:ListBucketMultipartUploads"]
      if contains(statement.Resource, "arn:aws:s3:::artifacts")
    ])
    error_message = "The bucket itself may be named only to list the prefix and uploads."
  }
  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_role_policy.this["task"].policy).Statement : statement.Action]), "s3:ListBucketMultipartUploads")
    error_message = "The store looks for uploads that were broken off: refused that, no large file is stored."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.this["task"].policy).Statement[0].Condition.StringLikeIfExists["s3:prefix"] == ["longhaul", "longhaul/*"]
    error_message = "No other prefix may be listed; without IfExists, S3 answers 403 for an object that is not there yet."
  }
  assert {
    condition = alltrue(flatten([for name in keys(output.policies) : [for statement in jsondecode(aws_iam_role_policy.this[name].policy).Statement : [
      for action in statement.Action : !strcontains(action, "*")
    ]]]))
    error_message = "No policy of the stack's may allow actions by pattern."
  }
  assert {
    condition     = length(setintersection(flatten([for statement in jsondecode(aws_iam_role_policy.this["task"].policy).Statement : statement.Action]), ["s3:DeleteObjectVersion", "s3:PutBucketPolicy", "kms:Encrypt", "kms:CreateGrant", "secretsmanager:PutSecretValue"])) == 0
    error_message = "A task must not be able to remove versions, change the bucket, or write secrets."
  }

  assert {
    condition = alltrue([for name, who in output.service_accounts :
      jsondecode(aws_iam_role.this[name].assume_role_policy).Statement[0].Condition.StringEquals == {
        "aws:RequestTag/eks-cluster-arn"            = var.cluster_arn
        "aws:RequestTag/kubernetes-namespace"       = who.namespace
        "aws:RequestTag/kubernetes-service-account" = who.service_account
      }
    ])
    error_message = "A role must be had by its own service account of its own cluster alone."
  }
  assert {
    condition = alltrue([for name, who in output.service_accounts :
      aws_eks_pod_identity_association.this[name].namespace == who.namespace && aws_eks_pod_identity_association.this[name].service_account == who.service_account
    ])
    error_message = "Every role must be associated with whom its trust names."
  }
  assert {
    condition     = alltrue([for role in aws_iam_role.this : jsondecode(role.assume_role_policy).Statement[0].Principal.Service == "pods.eks.amazonaws.com"])
    error_message = "Roles come by Pod Identity."
  }
  assert {
    condition     = toset(keys(output.roles)) == toset(["task", "metaflow-service", "metaflow-ui", "page", "cluster-autoscaler", "vpc-cni", "ebs-csi"])
    error_message = "These seven have rights in AWS, and no other."
  }

  assert {
    condition     = toset([for action in flatten([for statement in jsondecode(aws_iam_role_policy.this["metaflow-ui"].policy).Statement : statement.Action]) : action if startswith(action, "s3:")]) == toset(["s3:ListBucket", "s3:GetObject"])
    error_message = "Metaflow's page shows artifacts and must not change any."
  }
  assert {
    condition     = toset([for action in flatten([for statement in jsondecode(aws_iam_role_policy.this["page"].policy).Statement : statement.Action]) : action]) == toset(["s3:ListBucket", "s3:GetObject", "kms:Decrypt"])
    error_message = "The lineage page without actions must not be able to change anything."
  }
  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_role_policy.this["metaflow-service"].policy).Statement : statement.Resource]), "arn:aws:s3:::artifacts/longhaul/*")
    error_message = "Metaflow's service has no business in the bucket."
  }

  assert {
    condition = alltrue([for statement in jsondecode(aws_iam_role_policy.this["cluster-autoscaler"].policy).Statement :
      try(statement.Condition.StringEquals["aws:ResourceTag/k8s.io/cluster-autoscaler/longhaul"], "") == "owned"
      if contains(statement.Action, "autoscaling:SetDesiredCapacity")
    ])
    error_message = "The autoscaler must not scale another cluster's groups."
  }
}

run "refuses_the_default_service_account_and_an_open_prefix" {
  command = plan
  variables {
    task   = { namespace = "longhaul", service_account = "default" }
    prefix = ""
  }
  expect_failures = [var.task, var.prefix]
}

run "refuses_tasks_beside_the_service" {
  command = plan
  variables {
    metaflow_namespace = "longhaul"
  }
  expect_failures = [var.metaflow_namespace]
}

run "lets_the_page_add_records_and_a_scheduler_run_stages_where_asked_for" {
  variables {
    services = { namespace = "longhaul-services", page_actions = true, scheduler = true }
  }
  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.this["page"].policy).Statement :
      [statement.Action, statement.Resource] if contains(statement.Action, "s3:PutObject") || contains(statement.Action, "s3:DeleteObject")
    ] == [[["s3:PutObject"], ["arn:aws:s3:::artifacts/longhaul/store/records/*"]]]
    error_message = "The page may add records, and change neither models nor data."
  }
  assert {
    condition     = aws_iam_role_policy.this["scheduler"].policy == aws_iam_role_policy.this["task"].policy
    error_message = "The scheduler runs stages in its own pod, and may do what a task may."
  }
}

run "refuses_a_namespace_that_others_use" {
  command = plan
  variables {
    services = { namespace = "longhaul", page_actions = false, scheduler = false }
  }
  expect_failures = [var.services]
}
