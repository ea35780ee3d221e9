mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name        = "longhaul"
  zones       = ["use1-az4", "use1-az6", "use1-az2"]
  log_key_arn = "arn:aws:kms:us-east-1:123456789012:key/cluster"
}

run "keeps_flow_logs_and_closes_what_needs_no_way_out" {
  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flow.kms_key_id == var.log_key_arn
    error_message = "All traffic must be logged, and the log encrypted."
  }
  assert {
    condition     = toset(keys(output.private_subnets)) == toset(var.zones) && toset(keys(output.closed_subnets)) == toset(var.zones)
    error_message = "There must be a private and a closed subnet in each zone."
  }
  assert {
    condition     = length(distinct(concat(values(local.private_cidr), values(local.public_cidr), values(local.closed_cidr)))) == 9
    error_message = "Subnets must not share a range."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch])
    error_message = "One NAT gateway unless asked for more, and no public address by default."
  }
  assert {
    condition     = length(aws_default_security_group.closed.ingress) == 0 && length(aws_default_security_group.closed.egress) == 0
    error_message = "The default security group must let nothing through."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && length(aws_vpc_endpoint.s3.route_table_ids) >= 1
    error_message = "S3 must not pass the NAT gateway."
  }
  assert {
    condition     = jsondecode(aws_vpc_endpoint.s3.policy).Statement[0].Condition.StringEquals["aws:PrincipalAccount"] == "123456789012"
    error_message = "S3's endpoint must refuse credentials of other accounts."
  }
  assert {
    condition = alltrue([for bucket in ["prod-us-east-1-starport-layer-bucket", "prod-registry-k8s-io-*", "quayio-production-s3"] :
      contains(jsondecode(aws_vpc_endpoint.s3.policy).Statement[1].Resource, "arn:aws:s3:::${bucket}/*")
    ])
    error_message = "Images of the platform (autoscaler, JobSet, Argo) come from S3 too: refused there, no pod of it starts."
  }
  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.service : endpoint.private_dns_enabled]) && length(aws_vpc_endpoint.service) == 7
    error_message = "Interface endpoints must be reached by the services' own names."
  }
  assert {
    condition     = output.vpc_id != "" && output.s3_endpoint_id != ""
    error_message = "Other modules build on these."
  }
}

run "has_a_nat_gateway_in_each_zone_where_asked" {
  command = plan
  variables {
    nat_per_zone = true
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "The loss of a zone must take no other zone's way out."
  }
}

run "refuses_one_zone_and_a_range_that_is_cut_otherwise" {
  command = plan
  variables {
    zones = ["use1-az4"]
    cidr  = "10.0.0.0/20"
  }
  expect_failures = [var.zones, var.cidr]
}
