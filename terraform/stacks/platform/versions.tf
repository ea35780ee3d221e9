terraform {
  required_version = ">= 1.11"

  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "2.38.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = "3.1.1"
    }
  }

  # The rest comes from what bootstrap printed: terraform init -backend-config=../../backend.hcl
  backend "s3" {
    key = "platform.tfstate"
  }
}

# A token for a few minutes, made by the AWS command line of whoever applies this; none is in the state.
locals {
  get_token = {
    api_version = "client.authentication.k8s.io/v1beta1"
    command     = "aws"
    args        = ["eks", "get-token", "--region", var.cloud.region, "--cluster-name", var.cloud.cluster.name]
  }
}

provider "kubernetes" {
  host                   = var.cloud.cluster.endpoint
  cluster_ca_certificate = base64decode(var.cloud.cluster.certificate_authority)

  exec {
    api_version = local.get_token.api_version
    command     = local.get_token.command
    args        = local.get_token.args
  }
}

provider "helm" {
  kubernetes = {
    host                   = var.cloud.cluster.endpoint
    cluster_ca_certificate = base64decode(var.cloud.cluster.certificate_authority)
    exec                   = local.get_token
  }
}
