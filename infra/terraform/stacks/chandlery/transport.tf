module "distribution" {
  source = "../../modules/distribution"

  name                = local.name
  domain_names        = [var.domain_name]
  certificate_arn     = var.distribution_certificate_arn
  service_domain_name = var.origin_domain_name
  media_domain_name   = module.media.domain_name
  web_acl_arn         = var.web_acl_arn
  tags                = local.tags
}

module "load_balancer" {
  source = "../../modules/load-balancer"

  name               = "chandlery-${var.environment}"
  vpc_id             = var.vpc_id
  subnet_ids         = var.public_subnet_ids
  security_group_ids = [aws_security_group.this["load-balancer"].id]
  certificate_arn    = var.load_balancer_certificate_arn
  access_log_bucket  = module.access_logs.name
  tags               = local.tags
}

# Who reaches whom: each way has one port, and every one of these ports speaks TLS.
resource "aws_security_group" "this" {
  for_each = {
    load-balancer = "Asked by CloudFront."
    services      = "Asked by the load balancer."
    database      = "Asked by the services."
    cache         = "Asked by the services."
  }

  name        = "${local.name}-${each.key}"
  description = each.value
  vpc_id      = var.vpc_id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "from_cloudfront" {
  security_group_id = aws_security_group.this["load-balancer"].id
  description       = "CloudFront, by HTTPS"
  prefix_list_id    = var.cloudfront_prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

locals {
  ways = {
    load-balancer-to-services = { from = "load-balancer", to = "services", port = 8443 }
    services-to-database      = { from = "services", to = "database", port = 5432 }
    services-to-cache         = { from = "services", to = "cache", port = 6379 }
  }
}

resource "aws_vpc_security_group_egress_rule" "way" {
  for_each = local.ways

  security_group_id            = aws_security_group.this[each.value.from].id
  description                  = each.key
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "way" {
  for_each = local.ways

  security_group_id            = aws_security_group.this[each.value.to].id
  description                  = each.key
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

# AWS itself (KMS, S3, Secrets Manager, logs) and the payment providers, by HTTPS.
resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this["services"].id
  description       = "AWS and payment providers, by HTTPS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
