# The statements themselves. A task runs what a model wrote a prompt for and what people push: it reaches one prefix of one
# bucket, one key through S3 and Secrets Manager, and one secret; it cannot ask for other prefixes, nor delete versions.

locals {
  objects = "${var.bucket_arn}/${var.prefix}/*"

  # IfExists: of an object that is not there, S3 says 404 only to who may list the bucket, and 403 else, and that question has
  # no prefix. Metaflow and the store ask it before each write. The price: who lists with no prefix sees the bucket's names.
  list_prefix = {
    Sid       = "ListThePrefix"
    Effect    = "Allow"
    Action    = ["s3:ListBucket"]
    Resource  = [var.bucket_arn]
    Condition = { StringLikeIfExists = { "s3:prefix" = [var.prefix, "${var.prefix}/*"] } }
  }

  task = [
    local.list_prefix,
    {
      # Interrupted uploads resume; S3 has no condition on a prefix for this.
      Sid      = "FindBrokenOffUploads"
      Effect   = "Allow"
      Action   = ["s3:ListBucketMultipartUploads"]
      Resource = [var.bucket_arn]
    },
    {
      Sid      = "UseThePrefix"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
      Resource = [local.objects]
    },
    {
      Sid      = "UseTheKey"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = [var.data_key_arn]
      Condition = {
        StringEquals = {
          "kms:ViaService" = ["s3.${local.region}.amazonaws.com", "secretsmanager.${local.region}.amazonaws.com"]
        }
      }
    },
    {
      Sid      = "ReadTheSecret"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [var.task_secret_arn]
    },
  ]

  read_artifacts = [
    local.list_prefix,
    {
      Sid      = "ReadThePrefix"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = [local.objects]
    },
    {
      Sid       = "DecryptWhatItReads"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [var.data_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" } }
    },
  ]

  # Setting a tag adds a record to the store. Nothing else that the lineage page does writes there.
  write_records = [
    {
      Sid      = "AddRecords"
      Effect   = "Allow"
      Action   = ["s3:PutObject"]
      Resource = ["${var.bucket_arn}/${var.prefix}/store/records/*"]
    },
    {
      Sid       = "EncryptRecords"
      Effect    = "Allow"
      Action    = ["kms:GenerateDataKey"]
      Resource  = [var.data_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" } }
    },
  ]

  database_secret = [
    {
      Sid      = "ReadTheDatabasesPassword"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
      Resource = [var.database_secret_arn]
    },
    {
      Sid       = "DecryptTheDatabasesPassword"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [var.database_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${local.region}.amazonaws.com" } }
    },
  ]

  autoscaler = [
    {
      # None of these can be limited to a resource.
      Sid    = "Look"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags",
        "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
      ]
      Resource = ["*"]
    },
    {
      Sid      = "LookAtNodeGroups"
      Effect   = "Allow"
      Action   = ["eks:DescribeNodegroup"]
      Resource = ["arn:${local.partition}:eks:${local.region}:${local.account}:nodegroup/${var.cluster_name}/*"]
    },
    {
      Sid       = "ScaleGroupsOfThisCluster"
      Effect    = "Allow"
      Action    = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
      Resource  = ["*"]
      Condition = { StringEquals = { "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.cluster_name}" = "owned" } }
    },
  ]
}
