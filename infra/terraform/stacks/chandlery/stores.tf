module "database" {
  source = "../../modules/rds-postgresql"

  name                  = local.name
  kms_key_arn           = module.store_keys["database"].arn
  secrets_kms_key_arn   = module.store_keys["master"].arn
  database_name         = "chandlery"
  restore_from_snapshot = var.restore_from_snapshot
  subnet_ids            = var.private_subnet_ids
  security_group_ids    = [aws_security_group.this["database"].id]
  tags                  = local.tags
}

module "documents" {
  source = "../../modules/s3-bucket"

  name              = local.documents
  kms_key_arn       = module.store_keys["documents"].arn
  access_log_bucket = module.access_logs.name
  tags              = local.tags
}

# Pictures of goods, which anybody may see: nothing personal.
module "media" {
  source = "../../modules/s3-bucket"

  name              = "${local.name}-media-${data.aws_caller_identity.current.account_id}"
  kms_key_arn       = null
  distribution_arn  = module.distribution.arn
  access_log_bucket = module.access_logs.name
  tags              = local.tags
}

module "access_logs" {
  source = "../../modules/s3-bucket"

  name                  = "${local.name}-access-logs-${data.aws_caller_identity.current.account_id}"
  kms_key_arn           = null
  log_source_account_id = data.aws_caller_identity.current.account_id
  tags                  = local.tags
}

module "cache" {
  source = "../../modules/elasticache-redis"

  name               = "chandlery-${var.environment}"
  kms_key_arn        = module.store_keys["cache"].arn
  subnet_ids         = var.private_subnet_ids
  security_group_ids = [aws_security_group.this["cache"].id]
  tags               = local.tags
}

module "volumes" {
  source = "../../modules/ebs-defaults"

  kms_key_arn = module.store_keys["volumes"].arn
}

module "sessions" {
  source = "../../modules/dynamodb-table"

  name          = local.sessions
  kms_key_arn   = module.store_keys["tables"].arn
  hash_key      = "session"
  ttl_attribute = "ends"
  tags          = local.tags
}

module "log_groups" {
  source = "../../modules/log-groups"

  names       = toset(values(local.log_groups))
  kms_key_arn = module.store_keys["logs"].arn
  tags        = local.tags
}

module "flow_logs" {
  source = "../../modules/flow-logs"

  name           = local.name
  vpc_id         = var.vpc_id
  log_group_name = module.log_groups.names[local.log_groups["flows"]]
  log_group_arn  = module.log_groups.arns[local.log_groups["flows"]]
  tags           = local.tags
}

locals {
  # Paths, deadlines and readers as the source has them; `internal/encryption-dek` and `external/aws-ses` are left out.
  secrets = {
    "database/primary"         = { description = "Credentials of the database.", days = 30, readers = keys(local.services), rotated = true }
    "database/readonly"        = { description = "Credentials of the read replica.", days = 30, readers = ["api"], rotated = true }
    "redis/primary"            = { description = "Address of the cache.", days = 30, readers = ["api"], rotated = false }
    "jwt/access-token"         = { description = "Keys that sign access tokens.", days = 90, readers = ["api"], rotated = false }
    "jwt/refresh-token"        = { description = "Keys that sign refresh tokens.", days = 90, readers = ["api"], rotated = false }
    "external/stripe"          = { description = "Keys of Stripe.", days = 90, readers = ["payments"], rotated = false }
    "external/razorpay"        = { description = "Keys of Razorpay.", days = 90, readers = ["payments"], rotated = false }
    "external/sendgrid"        = { description = "Key of SendGrid.", days = 90, readers = ["api"], rotated = false }
    "internal/webhook-signing" = { description = "Key that signs webhooks.", days = 90, readers = ["api", "payments"], rotated = true }
  }
}

module "secrets" {
  source = "../../modules/secrets"

  application = "ship-chandlery"
  environment = var.environment
  kms_key_arn = module.store_keys["secrets"].arn
  tags        = local.tags

  secrets = {
    for path, secret in local.secrets : path => {
      description         = secret.description
      rotation_days       = secret.days
      reader_role_arns    = concat([for name in secret.readers : local.role_arns[name]], secret.rotated ? [var.rotation_role_arn] : [])
      rotation_lambda_arn = secret.rotated ? var.rotation_lambda_arn : null
    }
  }
}
