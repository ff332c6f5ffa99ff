# Where the source has one master key, each store has its own: a right on one is no right on the rest.
locals {
  store_keys = {
    database  = { service = "rds", holds = "the database, its snapshots and backups" }
    documents = { service = "s3", holds = "documents", context = { "aws:s3:arn" = "${local.arn}:s3:::${local.documents}" } }
    cache     = { service = "elasticache", holds = "what the cache writes to disk" }
    volumes   = { service = "ec2", holds = "EBS volumes and snapshots" }
    tables    = { service = "dynamodb", holds = "tables", context = { "aws:dynamodb:tableName" = local.sessions } }
    secrets   = { service = "secretsmanager", holds = "secrets", context = { SecretARN = "${local.arn}:secretsmanager:${local.here}:secret:/ship-chandlery/${var.environment}/*" } }
    # RDS makes the master user's secret in the name of whoever creates the database, so that role uses this key, and no other.
    master = { service = "secretsmanager", holds = "the secret of the database's master user", context = { SecretARN = "${local.arn}:secretsmanager:${local.here}:secret:rds!db-*" } }
    logs   = { service = "logs", holds = "log groups", context = { "aws:logs:arn" = "${local.arn}:logs:${local.here}:log-group:/ship-chandlery/${var.environment}/*" } }
    alerts = { service = "sns", holds = "security alerts" }
  }

  # By name, one by one: a loop over the services would wait for all that they are made of, these keys included.
  role_arns = {
    api        = module.services["api"].role_arn
    compliance = module.services["compliance"].role_arn
    finance    = module.services["finance"].role_arn
    payments   = module.services["payments"].role_arn
  }

  # Who uses a store's key, through the store's service only.
  readers = {
    secrets = values(local.role_arns)
  }
  writers = {
    documents = [local.role_arns["api"]]
    volumes   = var.launch_role_arns
    tables    = [local.role_arns["api"]]
    secrets   = [var.rotation_role_arn]
    master    = [var.deploy_role_arn]
  }

  # The classes of fields, and the one service that opens each.
  classes = {
    banking = { opened_by = "finance" }
    pii     = { opened_by = "compliance" }
    payment = { opened_by = "payments" }
  }
  class_keys = merge([
    for class, each in local.classes : {
      for use, kind in { fields = "branch", index = "index" } : "${class}-${use}" => merge(each, { class = class, kind = kind })
    }
  ]...)
}

module "store_keys" {
  source   = "../../modules/storage-key"
  for_each = local.store_keys

  name                    = "${local.name}-${each.key}"
  description             = "Ship Chandlery (${var.environment}): ${each.value.holds}"
  service                 = each.value.service
  context                 = try(each.value.context, {})
  reader_role_arns        = try(local.readers[each.key], [])
  writer_role_arns        = try(local.writers[each.key], [])
  administrator_role_arns = [var.key_administrator_role_arn]
  deploy_role_arn         = var.deploy_role_arn
  auditor_role_arns       = [var.security_auditor_role_arn]
  tags                    = local.tags
}

# What the application encrypts itself. The pairs are lacre's wrap context.
module "class_keys" {
  source   = "../../modules/context-key"
  for_each = local.class_keys

  name        = "${local.name}-${each.key}"
  description = "Ship Chandlery (${var.environment}): keys of the class ${each.value.class} (${each.value.kind})"
  context = {
    app     = "ship-chandlery"
    env     = var.environment
    service = "chandlery"
    class   = each.value.class
    kind    = each.value.kind
  }
  present                 = ["lacre-key", "lacre-row", "tenant"]
  mint_role_arns          = [var.mint_role_arn]
  open_role_arns          = [local.role_arns[each.value.opened_by]]
  administrator_role_arns = [var.key_administrator_role_arn]
  deploy_role_arn         = var.deploy_role_arn
  auditor_role_arns       = [var.security_auditor_role_arn]
  tags                    = local.tags
}
