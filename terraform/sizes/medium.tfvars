# Four training nodes joined by EFA, and spot nodes for rollout; for models of about 7 billion parameters.
size         = "medium"
region       = "us-east-1"
zones        = ["use1-az4", "use1-az6", "use1-az2"]
nat_per_zone = false

node_groups = {
  system = { pool = "system", instance_types = ["m7i.xlarge"], min_size = 2, max_size = 4 }
  cpu    = { pool = "cpu", instance_types = ["m7i.4xlarge"], max_size = 4 }

  # On demand, because the loss of one node ends the step on all; in one zone, because EFA works only within one.
  train = { pool = "train", instance_types = ["p5.48xlarge"], max_size = 4, efa = true, zones = ["use1-az4"] }

  # Spot: a rollout that loses its node is retried, and its partial responses are in the buffer. Three types make it
  # likelier to get one; the engine has to fit the smallest, 40 GB.
  rollout = { pool = "rollout", instance_types = ["g6e.48xlarge", "p4d.24xlarge", "p4de.24xlarge"], max_size = 8, capacity = "spot" }
}

database = { instance_class = "db.m7g.large" }

# Your own settings: who has access, and who gets the budget's e-mails.
# admins = ["arn:aws:iam::123456789012:role/admin"]
# budget = { monthly_usd = 50000, emails = ["you@example.com"] }
