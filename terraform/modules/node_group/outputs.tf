output "pool" {
  description = "What a pod asks for to run here: labels, taint, and what one node has."
  value = {
    pool           = var.pool
    capacity       = var.capacity
    instance_types = var.instance_types
    gpus           = local.instance.gpus
    gpu_models     = distinct([for type in var.instance_types : lookup(local.instances, type, local.no_gpu).gpu])
    efa            = var.efa ? local.instance.efa : 0
    scratch_gib    = local.scratch_gib
    min_size       = var.min_size
    max_size       = var.max_size
    labels         = local.labels
    tolerations    = local.gpu ? [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }] : []
  }
}

output "autoscaling_group" {
  description = "The Auto Scaling group behind the node group."
  value       = aws_eks_node_group.this.resources[0].autoscaling_groups[0].name
}
