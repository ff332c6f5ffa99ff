resource "aws_kms_key" "data" {
  description             = "Data of ${var.app} in ${var.environment}"
  policy                  = jsonencode({ Version = "2012-10-17", Statement = local.data_statements })
  enable_key_rotation     = var.enable_key_rotation
  rotation_period_in_days = var.enable_key_rotation ? var.rotation_period_days : null
  deletion_window_in_days = var.deletion_window_days
  multi_region            = false
  tags                    = local.tags

  # AWS refuses a policy that its writer could not replace.
  bypass_policy_lockout_safety_check = false

  lifecycle {
    precondition {
      condition     = alltrue([for arn in local.deployers : can(regex(":role/", arn))])
      error_message = "Terraform is not run by a role: name deployer_role_arns. A statement for a user, or for the account, would go round permission boundaries or hand over to IAM."
    }

    precondition {
      condition     = length(setintersection(local.caretakers, concat(local.applications, local.openers))) == 0
      error_message = "Who administers or deploys a key does not use it, and the other way round."
    }

    precondition {
      condition     = length(setintersection(local.provisioners, local.openers)) == 0
      error_message = "Who mints keys does not open them."
    }

    precondition {
      condition     = alltrue([for arn in local.everybody : split(":", arn)[4] == local.account])
      error_message = "Every role is of the account of the keys; other accounts are security_account_id and logs_account_id."
    }

    precondition {
      condition     = !contains(local.foreign_accounts, local.account)
      error_message = "security_account_id and logs_account_id are other accounts: a statement for the keys' own would hand over to IAM."
    }

    precondition {
      condition     = var.region == null || var.region == local.region
      error_message = "Keys are made in the region of what they encrypt."
    }

    precondition {
      condition     = length(setsubtract(keys(var.role_services), local.applications)) == 0
      error_message = "role_services names a role that has no rights under an encryption context."
    }
  }
}

resource "aws_kms_alias" "data" {
  name          = "alias/nc-dp-data-${var.environment}"
  target_key_id = aws_kms_key.data.key_id
}

resource "aws_kms_key" "logs" {
  description             = "Logs of ${var.app} in ${var.environment}"
  policy                  = jsonencode({ Version = "2012-10-17", Statement = local.logs_statements })
  enable_key_rotation     = var.enable_key_rotation
  rotation_period_in_days = var.enable_key_rotation ? var.rotation_period_days : null
  deletion_window_in_days = var.deletion_window_days
  multi_region            = false
  tags                    = local.tags

  bypass_policy_lockout_safety_check = false
}

resource "aws_kms_alias" "logs" {
  name          = "alias/nc-dp-logs-${var.environment}"
  target_key_id = aws_kms_key.logs.key_id
}

locals {
  tags = merge({ Environment = var.environment, ManagedBy = "terraform" }, var.tags)
}
