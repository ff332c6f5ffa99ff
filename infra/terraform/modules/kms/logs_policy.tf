# The logs key's statements for those who use it: CloudTrail, CloudWatch Logs, the delivery of flow logs to S3, applications
# that write logs to S3, and who reads them. Nobody uses it directly.

locals {
  trail       = coalesce(var.trail_name, "nc-dp-${var.environment}")
  trail_arn   = "arn:${local.partition}:cloudtrail:${local.region}:${local.account}:trail/${local.trail}"
  from_trail  = { "aws:SourceArn" = local.trail_arn }
  log_buckets = length(var.log_bucket_arns) > 0 ? sort(distinct(var.log_bucket_arns)) : ["arn:${local.partition}:s3:::*"]
  log_objects = flatten([for arn in local.log_buckets : endswith(arn, "*") ? [arn] : [arn, "${arn}/*"]])
  through_s3  = { "kms:ViaService" = "s3.${local.region}.${local.domain}" }
  logs_reader = coalesce(var.logs_account_id, "000000000000")

  logs_statements = concat(
    local.caretaking_statements,
    [
      {
        Sid       = "Trail"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "kms:GenerateDataKey"
        Resource  = "*"
        Condition = {
          StringEquals = local.from_trail
          StringLike   = { "kms:EncryptionContext:aws:cloudtrail:arn" = "arn:${local.partition}:cloudtrail:*:${local.account}:trail/*" }
        }
      },
      {
        Sid       = "TrailDescribes"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "kms:DescribeKey"
        Resource  = "*"
        Condition = { StringEquals = local.from_trail }
      },
      local.log_groups_statement,
      {
        Sid       = "FlowLogs"
        Effect    = "Allow"
        Principal = { Service = "delivery.logs.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = {
          StringEquals = { "aws:SourceAccount" = local.account }
          ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:logs:${local.region}:${local.account}:*" }
        }
      },
    ],
    [
      for write in [{
        # `Decrypt` is left out: an application puts logs away, and does not read them back. An upload in parts would need it.
        Sid       = "WriteLogs"
        Effect    = "Allow"
        Principal = { AWS = local.users }
        Action    = "kms:GenerateDataKey"
        Resource  = "*"
        Condition = {
          StringEquals = merge(local.our_call, local.through_s3)
          StringLike   = { "kms:EncryptionContext:aws:s3:arn" = local.log_objects }
        }
      }] : write if length(local.users) > 0
    ],
    [
      for read in [{
        Sid       = "ReadLogs"
        Effect    = "Allow"
        Principal = { AWS = local.log_readers }
        Action    = "kms:Decrypt"
        Resource  = "*"
        Condition = {
          StringEquals = merge(local.our_call, local.through_s3)
          StringLike   = { "kms:EncryptionContext:aws:s3:arn" = local.log_objects }
        }
      }] : read if length(local.log_readers) > 0
    ],
    [
      for read in [
        {
          # Which of its roles, that account decides.
          Sid       = "LogsAccountReads"
          Effect    = "Allow"
          Principal = { AWS = "arn:${local.partition}:iam::${local.logs_reader}:root" }
          Action    = "kms:Decrypt"
          Resource  = "*"
          Condition = {
            StringEquals = merge(local.through_s3, { "kms:CallerAccount" = local.logs_reader })
            StringLike   = { "kms:EncryptionContext:aws:s3:arn" = local.log_objects }
          }
        },
        {
          Sid       = "LogsAccountLooks"
          Effect    = "Allow"
          Principal = { AWS = "arn:${local.partition}:iam::${local.logs_reader}:root" }
          Action    = "kms:DescribeKey"
          Resource  = "*"
          Condition = { StringEquals = { "kms:CallerAccount" = local.logs_reader } }
        },
      ] : read if var.logs_account_id != null
    ],
  )
}
