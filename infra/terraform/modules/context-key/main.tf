data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  root    = "arn:${data.aws_partition.current.partition}:iam::${local.account}:root"

  # The caller says what the key is used for; KMS refuses what is missing, different or more.
  bound = merge(
    {
      StringEquals = { for name, value in var.context : "kms:EncryptionContext:${name}" => value }
      # In a key's policy, `ForAllValues` is also true where there is no pair at all: hence the two others.
      "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = sort(concat(keys(var.context), var.present, var.optional)) }
    },
    length(var.present) == 0 ? {} : { Null = { for name in var.present : "kms:EncryptionContext:${name}" => "false" } },
  )

  statements = concat(
    [
      {
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = sort(var.administrator_role_arns) }
        Action = [
          "kms:CancelKeyDeletion",
          "kms:DescribeKey",
          "kms:DisableKey",
          "kms:EnableKey",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListGrants",
          "kms:ListKeyRotations",
          "kms:RevokeGrant",
          "kms:RotateKeyOnDemand",
          "kms:ScheduleKeyDeletion",
        ]
        Resource = "*"
      },
      {
        Sid       = "Deploy"
        Effect    = "Allow"
        Principal = { AWS = var.deploy_role_arn }
        Action = [
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:DescribeKey",
          "kms:EnableKeyRotation",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListResourceTags",
          "kms:PutKeyPolicy",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
        Resource = "*"
      },
      {
        # The root user alone, not whomever IAM lets act for the account: `Principal` names the account.
        Sid       = "BreakGlass"
        Effect    = "Allow"
        Principal = { AWS = local.root }
        Action    = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"]
        Resource  = "*"
        Condition = { ArnEquals = { "aws:PrincipalArn" = local.root } }
      },
      {
        Sid       = "Mint"
        Effect    = "Allow"
        Principal = { AWS = sort(var.mint_role_arns) }
        Action    = var.mint_in_the_clear ? "kms:GenerateDataKey" : "kms:GenerateDataKeyWithoutPlaintext"
        Resource  = "*"
        Condition = local.bound
      },
      {
        Sid       = "Open"
        Effect    = "Allow"
        Principal = { AWS = sort(var.open_role_arns) }
        Action    = "kms:Decrypt"
        Resource  = "*"
        Condition = local.bound
      },
      {
        # Whatever is allowed one day: never without the pairs that say what for.
        Sid       = "DenyWithoutContext"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action = [
          "kms:Decrypt",
          "kms:Encrypt",
          "kms:GenerateDataKey",
          "kms:GenerateDataKeyPair",
          "kms:GenerateDataKeyPairWithoutPlaintext",
          "kms:GenerateDataKeyWithoutPlaintext",
          "kms:ReEncryptFrom",
          "kms:ReEncryptTo",
        ]
        Resource  = "*"
        Condition = { Null = { "kms:EncryptionContext:${keys(var.context)[0]}" = "true" } }
      },
    ],
    [for arns in [var.auditor_role_arns] : {
      Sid       = "Audit"
      Effect    = "Allow"
      Principal = { AWS = sort(arns) }
      Action    = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies"]
      Resource  = "*"
    } if length(arns) > 0],
  )
}

resource "aws_kms_key" "this" {
  description                        = var.description
  enable_key_rotation                = true
  deletion_window_in_days            = var.deletion_window_days
  bypass_policy_lockout_safety_check = false
  multi_region                       = false
  policy                             = jsonencode({ Version = "2012-10-17", Statement = local.statements })
  tags                               = var.tags
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}
