# Who is who. The preconditions on the data key say who may not be whom.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

# The role behind the session that runs Terraform, for where no deployer is named.
data "aws_iam_session_context" "caller" {
  count = length(var.deployer_role_arns) == 0 ? 1 : 0
  arn   = data.aws_caller_identity.current.arn
}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
  domain    = data.aws_partition.current.dns_suffix
  root      = "arn:${local.partition}:iam::${local.account}:root"

  deployers      = sort(distinct(coalescelist(var.deployer_role_arns, data.aws_iam_session_context.caller[*].issuer_arn)))
  administrators = sort(distinct(var.administrator_role_arns))
  users          = sort(distinct(concat(var.lambda_role_arns, var.fargate_role_arns, var.glue_role_arns)))
  producers      = sort(distinct(var.producer_role_arns))
  provisioners   = sort(distinct(var.provisioner_role_arns))
  storage        = sort(distinct(var.storage_role_arns))
  log_readers    = sort(distinct(var.log_reader_role_arns))

  caretakers   = sort(distinct(concat(local.deployers, local.administrators)))
  applications = sort(distinct(concat(local.users, local.producers, local.provisioners)))
  openers      = sort(distinct(concat(local.users, local.producers, local.storage, local.log_readers)))
  everybody    = sort(distinct(concat(local.caretakers, local.applications, local.openers)))

  # Not the account of the keys: a statement for one's own account hands over to IAM.
  foreign_accounts = [for account in [var.security_account_id, var.logs_account_id] : account if account != null]
}
