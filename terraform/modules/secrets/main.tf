# The one secret that tasks may read: a JSON object of names and values (WANDB_API_KEY, HF_TOKEN), which Metaflow's
# @secrets makes environment variables. Terraform makes the place and never knows what is put there:
#
#   aws secretsmanager put-secret-value --secret-id NAME --secret-string file://tokens.json

resource "aws_secretsmanager_secret" "task" {
  # A prefix: a deleted secret keeps its name for 30 days, and a new installation could not have it.
  name_prefix             = "${var.name}/task-"
  description             = "Tokens for tasks of ${var.name}: a JSON object of environment variables"
  kms_key_id              = var.key_arn
  recovery_window_in_days = 30
}
