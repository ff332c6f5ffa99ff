provider "aws" {
  region = var.region
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  name = "departments-${var.environment}"
  arn  = "arn:${data.aws_partition.current.partition}"
  here = "${var.region}:${data.aws_caller_identity.current.account_id}"
  tags = { Application = "departments", Environment = var.environment, ManagedBy = "terraform" }

  consumers  = { for department in var.departments : department => "${local.name}-${department}" }
  log_groups = { for name in concat(["brokers", "generator", "producer"], sort(tolist(var.departments))) : name => "/departments/${var.environment}/${name}" }

  repositories = { for program in ["consumer", "generator", "producer"] : program => "departments/${var.environment}/${program}" }

  store_keys = {
    queue  = { service = "sqs", holds = "what waits for the producer", context = { "aws:sqs:arn" = "${local.arn}:sqs:${local.here}:${local.name}*" } }
    topic  = { service = "kafka", holds = "the brokers' volumes" }
    images = { service = "ecr", holds = "images" }
    logs   = { service = "logs", holds = "log groups", context = { "aws:logs:arn" = "${local.arn}:logs:${local.here}:log-group:/departments/${var.environment}/*" } }
  }
}

module "store_keys" {
  source   = "../../modules/storage-key"
  for_each = local.store_keys

  name                    = "${local.name}-${each.key}"
  description             = "Departments (${var.environment}): ${each.value.holds}"
  service                 = each.value.service
  context                 = try(each.value.context, {})
  reader_role_arns        = each.key == "queue" ? [module.producer.role_arn] : []
  writer_role_arns        = each.key == "queue" ? [module.generator.role_arn] : []
  administrator_role_arns = [var.key_administrator_role_arn]
  deploy_role_arn         = var.deploy_role_arn
  auditor_role_arns       = [var.security_auditor_role_arn]
  tags                    = local.tags
}

# One key for each department: the producer makes data keys under it, the department opens them, nobody does both.
module "department_keys" {
  source   = "../../modules/context-key"
  for_each = local.consumers

  name        = "${local.name}-for-${each.key}"
  description = "Departments (${var.environment}): events for ${each.key}"
  context = {
    app               = "departments"
    env               = var.environment
    tenant            = var.tenant
    topic             = var.topic
    "for-${each.key}" = "1"
  }
  present                 = ["source", "type"]
  optional                = ["aws-crypto-public-key"]
  mint_in_the_clear       = true
  mint_role_arns          = [module.producer.role_arn]
  open_role_arns          = [module.consumers[each.key].role_arn]
  administrator_role_arns = [var.key_administrator_role_arn]
  deploy_role_arn         = var.deploy_role_arn
  auditor_role_arns       = [var.security_auditor_role_arn]
  tags                    = local.tags
}

module "log_groups" {
  source = "../../modules/log-groups"

  names       = toset(values(local.log_groups))
  kms_key_arn = module.store_keys["logs"].arn
  tags        = local.tags
}

module "images" {
  source = "../../modules/ecr"

  names          = toset(values(local.repositories))
  kms_key_arn    = module.store_keys["images"].arn
  function_names = { (local.repositories["generator"]) = "${local.name}-generator" }
  tags           = local.tags
}
