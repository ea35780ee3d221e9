# One node with 8 GPUs, which exists only while a stage needs it; for models of 0.5 to 1.5 billion parameters.
size   = "small"
region = "us-east-1"
zones  = ["use1-az4", "use1-az6"]

# Too little traffic to save on: images and secrets pass the NAT gateway.
interface_endpoints = []

node_groups = {
  system = { pool = "system", instance_types = ["m7i.xlarge"], min_size = 2, max_size = 3 }
  cpu    = { pool = "cpu", instance_types = ["m7i.4xlarge"], max_size = 2 }
  train  = { pool = "train", instance_types = ["p4d.24xlarge"], max_size = 1 }
}

# Your own settings: who has access, and who gets the budget's e-mails.
# admins = ["arn:aws:iam::123456789012:role/admin"]
# budget = { monthly_usd = 2000, emails = ["you@example.com"] }
