resource "aws_cloudfront_origin_access_control" "media" {
  name                              = "${var.name}-media"
  description                       = "Signs what is asked of the bucket."
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_response_headers_policy" "this" {
  #checkov:skip=CKV_AWS_259:`preload` puts the whole domain on a list in browsers, for years: its owner's decision, not this module's.
  name = "${var.name}-transport"

  security_headers_config {
    strict_transport_security {
      access_control_max_age_sec = 63072000
      include_subdomains         = true
      override                   = true
    }

    content_type_options {
      override = true
    }

    frame_options {
      frame_option = "DENY"
      override     = true
    }

    referrer_policy {
      referrer_policy = "strict-origin-when-cross-origin"
      override        = true
    }
  }
}

resource "aws_cloudfront_distribution" "this" {
  #checkov:skip=CKV_AWS_68:A web application firewall is named by `web_acl_arn`; which rules it has is not about encryption.
  #checkov:skip=CKV2_AWS_47:As for CKV_AWS_68, the firewall is named by `web_acl_arn`.
  #checkov:skip=CKV_AWS_86:Its older logs need a bucket with ACLs, which ours refuse; the load balancer logs each request.
  #checkov:skip=CKV_AWS_305:The service answers at the root.
  #checkov:skip=CKV_AWS_310:There is one origin for each path; the load balancer is in several zones.
  #checkov:skip=CKV_AWS_374:Customers are everywhere.
  enabled         = true
  is_ipv6_enabled = true
  comment         = var.name
  aliases         = var.domain_names
  web_acl_id      = var.web_acl_arn
  tags            = var.tags

  origin {
    origin_id   = "service"
    domain_name = var.service_domain_name

    custom_origin_config {
      http_port              = 80
      https_port             = 443
      origin_protocol_policy = "https-only"
      origin_ssl_protocols   = ["TLSv1.2"]
    }
  }

  origin {
    origin_id                = "media"
    domain_name              = var.media_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.media.id
  }

  default_cache_behavior {
    target_origin_id           = "service"
    viewer_protocol_policy     = "https-only"
    allowed_methods            = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
    cached_methods             = ["GET", "HEAD"]
    cache_policy_id            = local.caching_disabled
    origin_request_policy_id   = local.all_but_host
    response_headers_policy_id = aws_cloudfront_response_headers_policy.this.id
    compress                   = false
  }

  ordered_cache_behavior {
    path_pattern               = "/media/*"
    target_origin_id           = "media"
    viewer_protocol_policy     = "redirect-to-https"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    cache_policy_id            = local.caching_optimized
    response_headers_policy_id = aws_cloudfront_response_headers_policy.this.id
    compress                   = true
  }

  viewer_certificate {
    acm_certificate_arn      = var.certificate_arn
    ssl_support_method       = "sni-only"
    minimum_protocol_version = var.minimum_protocol_version
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }
}

locals {
  # Policies of CloudFront's own, which have these ids everywhere.
  caching_disabled  = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
  caching_optimized = "658327ea-f89d-4fab-a63d-7e88639e58f6"
  all_but_host      = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
}
