# Redis always has a user of this name, whom clients without a name are: it can do nothing.
resource "aws_elasticache_user" "default" {
  user_id       = "${var.name}-default"
  user_name     = "default"
  engine        = "redis"
  access_string = "off -@all"
  tags          = var.tags

  authentication_mode {
    type = "no-password-required"
  }
}

# Signs in with a token of its role, which ends after fifteen minutes: there is no password to keep.
resource "aws_elasticache_user" "application" {
  user_id       = "${var.name}-application"
  user_name     = "${var.name}-application"
  engine        = "redis"
  access_string = var.access_string
  tags          = var.tags

  authentication_mode {
    type = "iam"
  }
}

resource "aws_elasticache_user_group" "this" {
  user_group_id = var.name
  engine        = "redis"
  user_ids      = [aws_elasticache_user.default.user_id, aws_elasticache_user.application.user_id]
  tags          = var.tags
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
  tags       = var.tags
}

resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV_AWS_31:Users sign in with tokens of IAM, in `user_group_ids`, instead of one password for all.
  replication_group_id = var.name
  description          = var.name
  engine               = "redis"
  engine_version       = var.engine_version
  node_type            = var.node_type
  num_cache_clusters   = 2

  at_rest_encryption_enabled = true
  kms_key_id                 = var.kms_key_arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"

  user_group_ids     = [aws_elasticache_user_group.this.user_group_id]
  subnet_group_name  = aws_elasticache_subnet_group.this.name
  security_group_ids = var.security_group_ids

  automatic_failover_enabled = true
  multi_az_enabled           = true
  auto_minor_version_upgrade = true
  snapshot_retention_limit   = var.snapshot_retention_days

  tags = var.tags
}
