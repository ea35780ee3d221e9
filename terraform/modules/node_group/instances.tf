# What an instance type has, for GPU types that this project may run on. Sources, read in November 2026:
#   EFA interfaces: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-acc-inst-types.html (P5, P6-B200, P6-B300), and
#   `aws ec2 describe-instance-types`, NetworkInfo.EfaInfo.MaximumEfaInterfaces, as listed for each type at
#   https://karpenter.sh/docs/reference/instance-types/ (resource vpc.amazonaws.com/efa).
# A new type needs a line here: a wrong number of interfaces either leaves bandwidth unused or starts no instance at all.

locals {
  # gpus; efa = interfaces for EFA; first_card = the first network card that takes one (card 0 of P6-B300 is for IP alone);
  # store_gib = instance store of all its disks, from memory: compare InstanceStorageInfo of the same command.
  instances = {
    "g5.12xlarge"      = { gpus = 4, gpu = "A10G", efa = 1, first_card = 0, store_gib = 3539 }
    "g5.48xlarge"      = { gpus = 8, gpu = "A10G", efa = 1, first_card = 0, store_gib = 7078 }
    "g6.12xlarge"      = { gpus = 4, gpu = "L4", efa = 1, first_card = 0, store_gib = 3501 }
    "g6.48xlarge"      = { gpus = 8, gpu = "L4", efa = 1, first_card = 0, store_gib = 7003 }
    "g6e.12xlarge"     = { gpus = 4, gpu = "L40S", efa = 1, first_card = 0, store_gib = 3539 }
    "g6e.24xlarge"     = { gpus = 4, gpu = "L40S", efa = 2, first_card = 0, store_gib = 3539 }
    "g6e.48xlarge"     = { gpus = 8, gpu = "L40S", efa = 4, first_card = 0, store_gib = 7078 }
    "g7e.24xlarge"     = { gpus = 4, gpu = "RTX-PRO-6000", efa = 2, first_card = 0, store_gib = 7078 }
    "g7e.48xlarge"     = { gpus = 8, gpu = "RTX-PRO-6000", efa = 4, first_card = 0, store_gib = 14156 }
    "p4d.24xlarge"     = { gpus = 8, gpu = "A100-40G", efa = 4, first_card = 0, store_gib = 7450 }
    "p4de.24xlarge"    = { gpus = 8, gpu = "A100-80G", efa = 4, first_card = 0, store_gib = 7450 }
    "p5.4xlarge"       = { gpus = 1, gpu = "H100", efa = 1, first_card = 0, store_gib = 3576 }
    "p5.48xlarge"      = { gpus = 8, gpu = "H100", efa = 32, first_card = 0, store_gib = 28610 }
    "p5e.48xlarge"     = { gpus = 8, gpu = "H200", efa = 32, first_card = 0, store_gib = 28610 }
    "p5en.48xlarge"    = { gpus = 8, gpu = "H200", efa = 16, first_card = 0, store_gib = 28610 }
    "p6-b200.48xlarge" = { gpus = 8, gpu = "B200", efa = 8, first_card = 0, store_gib = 28610 }
    "p6-b300.48xlarge" = { gpus = 8, gpu = "B300", efa = 16, first_card = 1, store_gib = 28610 }
  }

  # A type without accelerators, as m7i.2xlarge, has no line: all that matters is that it has no GPU.
  no_gpu   = { gpus = 0, gpu = "", efa = 0, first_card = 0, store_gib = 0 }
  instance = lookup(local.instances, var.instance_types[0], local.no_gpu)

  # AWS's rule for several network cards: an ENA interface on card 0, device 0, and then interfaces for EFA alone, which
  # take no IP address: device 1 of card 0 where that card can, and device 0 of every further card.
  interfaces = concat(
    [{ card = 0, device = 0, type = "interface" }],
    var.efa ? [
      for i in range(local.instance.efa) : {
        card   = local.instance.first_card + i
        device = local.instance.first_card + i == 0 ? 1 : 0
        type   = "efa-only"
      }
    ] : [],
  )
}
