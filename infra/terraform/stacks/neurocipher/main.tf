provider "aws" {
  region = var.region
}

module "kms" {
  source = "../../modules/kms"

  environment          = var.environment
  enable_key_rotation  = true
  deletion_window_days = 30
  region               = var.region
  s3_bucket_arns       = var.data_bucket_arns
  log_bucket_arns      = concat(["arn:aws:s3:::${var.trail_bucket_name}"], var.log_bucket_arns)

  lambda_role_arns  = var.lambda_role_arns
  fargate_role_arns = var.fargate_role_arns
  glue_role_arns    = var.glue_role_arns

  security_account_id = var.security_account_id
  logs_account_id     = var.logs_account_id

  deployer_role_arns      = var.pipeline_role_arns
  administrator_role_arns = var.administrator_role_arns
  producer_role_arns      = var.producer_role_arns
  provisioner_role_arns   = var.provisioner_role_arns
  storage_role_arns       = var.storage_role_arns
  log_reader_role_arns    = var.log_reader_role_arns
  role_services           = var.role_services

  tags = local.tags
}

module "cloudtrail" {
  source = "../../modules/cloudtrail"

  environment      = var.environment
  bucket_name      = var.trail_bucket_name
  kms_key_arn      = module.kms.logs_key_arn
  object_lock_mode = var.trail_object_lock_mode
  alert_topic_arn  = var.alert_topic_arn
  tags             = local.tags
}

module "guardduty" {
  source = "../../modules/guardduty"
  count  = var.watch ? 1 : 0

  environment     = var.environment
  alert_topic_arn = var.alert_topic_arn
  tags            = local.tags
}

module "scp_deny_unencrypted_s3" {
  source = "../../modules/scp-deny-unencrypted-s3"

  target_ids         = var.scp_target_ids
  pipeline_role_arns = var.pipeline_role_arns
  kms_key_arns       = [module.kms.data_key_arn, module.kms.logs_key_arn]
  tags               = local.tags
}

module "scp_protect_kms_keys" {
  source = "../../modules/scp-protect-kms-keys"

  target_ids         = var.scp_target_ids
  pipeline_role_arns = var.pipeline_role_arns
  tags               = local.tags
}

locals {
  tags = {
    Environment = var.environment
    Project     = "neurocipher-platform"
    ManagedBy   = "terraform"
  }
}
