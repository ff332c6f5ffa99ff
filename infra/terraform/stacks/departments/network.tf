# Who reaches whom: each way has one port, and speaks TLS. Nothing comes in from outside, nothing goes out.
resource "aws_security_group" "this" {
  for_each = {
    brokers  = "Asked by the services, and by one another."
    services = "Asked by nobody."
  }

  name        = "${local.name}-${each.key}"
  description = each.value
  vpc_id      = var.vpc_id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "brokers" {
  security_group_id            = aws_security_group.this["brokers"].id
  description                  = "Services, by IAM over TLS"
  referenced_security_group_id = aws_security_group.this["services"].id
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
}

resource "aws_vpc_security_group_egress_rule" "services_to_brokers" {
  security_group_id            = aws_security_group.this["services"].id
  description                  = "Brokers, by IAM over TLS"
  referenced_security_group_id = aws_security_group.this["brokers"].id
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
}

resource "aws_vpc_security_group_egress_rule" "services_to_endpoints" {
  security_group_id            = aws_security_group.this["services"].id
  description                  = "KMS, SQS, ECR and logs, by HTTPS"
  referenced_security_group_id = var.endpoints_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "services_to_s3" {
  security_group_id = aws_security_group.this["services"].id
  description       = "Layers of images, by HTTPS"
  prefix_list_id    = var.s3_prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
