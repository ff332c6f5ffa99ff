data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  region  = data.aws_region.current.name
  root    = "arn:${data.aws_partition.current.partition}:iam::${local.account}:root"
  via     = "${var.service}.${local.region}.amazonaws.com"

  # What a caller needs of the key for each service that uses it in the caller's name.
  reading = {
    dynamodb       = ["kms:Decrypt"]
    ec2            = ["kms:Decrypt"]
    s3             = ["kms:Decrypt"]
    secretsmanager = ["kms:Decrypt"]
    sqs            = ["kms:Decrypt"]
  }
  writing = {
    dynamodb = ["kms:Decrypt"]
    # A volume is made under the account's key: its data key is made, and re-encrypted for a copy.
    ec2            = ["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    s3             = ["kms:Decrypt", "kms:GenerateDataKey"]
    secretsmanager = ["kms:Decrypt", "kms:GenerateDataKey"]
    sqs            = ["kms:Decrypt", "kms:GenerateDataKey"]
  }

  # What the service itself needs where it calls in its own name, not in a caller's.
  own_name = {
    logs = {
      principal = "logs.${local.region}.amazonaws.com"
      actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    }
    sns = {
      principal = "cloudwatch.amazonaws.com"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    }
  }

  # These hold the key by a grant, which AWS makes when the store is created.
  by_grant = ["dynamodb", "ec2", "ecr", "elasticache", "kafka", "rds", "secretsmanager"]
  creators = sort(distinct(concat([var.deploy_role_arn], var.service == "ec2" ? var.writer_role_arns : [])))

  through_the_service = merge(
    { StringEquals = { "kms:CallerAccount" = local.account, "kms:ViaService" = local.via } },
    length(var.context) == 0 ? {} : { StringLike = { for name, value in var.context : "kms:EncryptionContext:${name}" => value } },
  )

  of_the_service = merge(
    # CloudWatch Logs sends no source, and says in the context whose logs they are; the others send a source.
    var.service == "logs" ? {} : { StringEquals = { "aws:SourceAccount" = local.account } },
    length(var.context) == 0 ? {} : { ArnLike = { for name, value in var.context : "kms:EncryptionContext:${name}" => value } },
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
    ],
    [for arns in [var.auditor_role_arns] : {
      Sid       = "Audit"
      Effect    = "Allow"
      Principal = { AWS = sort(arns) }
      Action    = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies"]
      Resource  = "*"
    } if length(arns) > 0],
    [for service in [var.service] : {
      Sid       = "LookThroughTheService"
      Effect    = "Allow"
      Principal = { AWS = local.creators }
      Action    = ["kms:DescribeKey", "kms:RetireGrant"]
      Resource  = "*"
      Condition = { StringEquals = { "kms:CallerAccount" = local.account, "kms:ViaService" = local.via } }
    } if contains(local.by_grant, service)],
    [for service in [var.service] : {
      # A grant that AWS makes for a store of its own: nobody can make one for a person or a role.
      Sid       = "CreateStores"
      Effect    = "Allow"
      Principal = { AWS = local.creators }
      Action    = "kms:CreateGrant"
      Resource  = "*"
      Condition = {
        Bool         = { "kms:GrantIsForAWSResource" = "true" }
        StringEquals = { "kms:CallerAccount" = local.account, "kms:ViaService" = local.via }
      }
    } if contains(local.by_grant, service)],
    [for service in [var.service] : {
      # DynamoDB makes and re-encrypts the table's key in the name of whoever creates the table.
      Sid       = "CreateTables"
      Effect    = "Allow"
      Principal = { AWS = var.deploy_role_arn }
      Action    = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
      Resource  = "*"
      Condition = local.through_the_service
    } if service == "dynamodb"],
    [for arns in [var.reader_role_arns] : {
      Sid       = "ReadThroughTheService"
      Effect    = "Allow"
      Principal = { AWS = sort(arns) }
      Action    = local.reading[var.service]
      Resource  = "*"
      Condition = local.through_the_service
    } if length(arns) > 0],
    [for arns in [var.writer_role_arns] : {
      Sid       = "WriteThroughTheService"
      Effect    = "Allow"
      Principal = { AWS = sort(arns) }
      Action    = local.writing[var.service]
      Resource  = "*"
      Condition = local.through_the_service
    } if length(arns) > 0],
    [for service in [var.service] : {
      Sid       = "OfTheService"
      Effect    = "Allow"
      Principal = { Service = local.own_name[service].principal }
      Action    = local.own_name[service].actions
      Resource  = "*"
      Condition = local.of_the_service
    } if contains(keys(local.own_name), service)],
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
