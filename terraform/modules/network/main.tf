# A VPC with three kinds of subnet in each zone: private ones for nodes and pods, small ones without any route out for the
# database and the control plane's interfaces, and public ones that hold NAT gateways and nothing else.

locals {
  zones = { for i, zone in var.zones : zone => i }
  # The first three quarters of the range go to nodes: 16,384 addresses a zone in a /16. The last quarter is cut into /24s.
  private_cidr = { for zone, i in local.zones : zone => cidrsubnet(var.cidr, 2, i) }
  public_cidr  = { for zone, i in local.zones : zone => cidrsubnet(var.cidr, 8, 192 + i) }
  closed_cidr  = { for zone, i in local.zones : zone => cidrsubnet(var.cidr, 8, 200 + i) }
  # A zone without a gateway of its own goes through the first zone's.
  nat_zones = var.nat_per_zone ? var.zones : [var.zones[0]]
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# Whatever is started without naming a security group reaches nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-default-closed" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id               = aws_vpc.this.id
  availability_zone_id = each.key
  cidr_block           = local.private_cidr[each.key]
  tags                 = { Name = "${var.name}-private-${each.key}", "kubernetes.io/role/internal-elb" = "1" }
}

resource "aws_subnet" "public" {
  for_each = local.zones

  vpc_id                  = aws_vpc.this.id
  availability_zone_id    = each.key
  cidr_block              = local.public_cidr[each.key]
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_subnet" "closed" {
  for_each = local.zones

  vpc_id               = aws_vpc.this.id
  availability_zone_id = each.key
  cidr_block           = local.closed_cidr[each.key]
  tags                 = { Name = "${var.name}-closed-${each.key}" }
}

resource "aws_eip" "nat" {
  for_each = toset(local.nat_zones)

  domain = "vpc"
  tags   = { Name = "${var.name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = toset(local.nat_zones)

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id
  tags          = { Name = "${var.name}-${each.key}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-public" }
}

resource "aws_route" "public" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = local.zones

  subnet_id      = aws_subnet.public[each.key].id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  for_each = local.zones

  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route" "private" {
  for_each = local.zones

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[var.nat_per_zone ? each.key : var.zones[0]].id
}

resource "aws_route_table_association" "private" {
  for_each = local.zones

  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}

resource "aws_route_table" "closed" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-closed" }
}

resource "aws_route_table_association" "closed" {
  for_each = local.zones

  subnet_id      = aws_subnet.closed[each.key].id
  route_table_id = aws_route_table.closed.id
}
