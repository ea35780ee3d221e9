# 64 training nodes in a capacity block and 32 spot nodes for rollout; for the report's own figures. Planned, not run.
size         = "large"
region       = "us-east-1"
zones        = ["use1-az4", "use1-az6", "use1-az2"]
nat_per_zone = true

node_groups = {
  system = { pool = "system", instance_types = ["m7i.2xlarge"], min_size = 3, max_size = 6 }
  cpu    = { pool = "cpu", instance_types = ["m7i.8xlarge"], max_size = 16 }

  # A block holds up to 64 instances. Buy one (`aws ec2 describe-capacity-block-offerings`), put its id and zone here.
  train = {
    pool           = "train"
    instance_types = ["p5en.48xlarge"]
    max_size       = 64
    efa            = true
    zones          = ["use1-az4"]
    capacity       = "capacity-block"
    reservation_id = "cr-00000000000000000"
  }

  rollout = { pool = "rollout", instance_types = ["p5.48xlarge", "p5e.48xlarge"], max_size = 32, capacity = "spot" }
}

database = { instance_class = "db.m7g.xlarge", multi_az = true }

# Your own settings: who has access, and who gets the budget's e-mails.
# admins = ["arn:aws:iam::123456789012:role/admin"]
# budget = { monthly_usd = 3000000, emails = ["you@example.com"] }
