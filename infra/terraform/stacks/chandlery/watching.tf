module "alarms" {
  source = "../../modules/alarms"

  name            = local.name
  kms_key_arn     = module.store_keys["alerts"].arn
  email_addresses = var.alert_email_addresses
  tags            = local.tags
}

module "config_rules" {
  source = "../../modules/config-rules"

  name                  = local.name
  database_kms_key_arn  = module.store_keys["database"].arn
  documents_kms_key_arn = module.store_keys["documents"].arn
  documents_bucket      = local.documents
  volumes_kms_key_arn   = module.store_keys["volumes"].arn
  tables_kms_key_arn    = module.store_keys["tables"].arn
  secrets_kms_key_arn   = module.store_keys["secrets"].arn
  tags                  = local.tags
}
