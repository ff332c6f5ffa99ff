resource "aws_lb" "this" {
  #checkov:skip=CKV2_AWS_28:The web application firewall stands before CloudFront, which alone reaches this.
  #checkov:skip=CKV2_AWS_20:There is no listener for plain HTTP, so nothing to redirect.
  name               = var.name
  load_balancer_type = "application"
  internal           = var.internal
  subnets            = var.subnet_ids
  security_groups    = var.security_group_ids

  drop_invalid_header_fields = true
  desync_mitigation_mode     = "strictest"
  enable_deletion_protection = true

  access_logs {
    bucket  = var.access_log_bucket
    enabled = true
  }

  tags = var.tags
}

# The only listener: plain HTTP has none.
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = var.ssl_policy
  certificate_arn   = var.certificate_arn
  tags              = var.tags

  routing_http_response_server_enabled                         = false
  routing_http_response_strict_transport_security_header_value = "max-age=63072000; includeSubDomains"
  routing_http_response_x_content_type_options_header_value    = "nosniff"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

# To the tasks by TLS too. A load balancer does not verify a target's certificate, and would take an old TLS of it:
# what refuses less than 1.2 on this leg is the task's own server.
resource "aws_lb_target_group" "this" {
  name        = var.name
  port        = var.target_port
  protocol    = "HTTPS"
  target_type = "ip"
  vpc_id      = var.vpc_id

  health_check {
    protocol = "HTTPS"
    path     = var.health_check_path
    matcher  = "200"
  }

  tags = var.tags
}
