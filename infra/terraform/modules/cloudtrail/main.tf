data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
  name      = coalesce(var.name, "nc-dp-${var.environment}")
  arn       = "arn:${local.partition}:cloudtrail:${local.region}:${local.account}:trail/${local.name}"
  tags      = merge({ Environment = var.environment, ManagedBy = "terraform" }, var.tags)
}

resource "aws_cloudtrail" "this" {
  name                          = local.name
  s3_bucket_name                = aws_s3_bucket.this.id
  kms_key_id                    = var.kms_key_arn
  enable_logging                = true
  enable_log_file_validation    = true
  include_global_service_events = true
  is_multi_region_trail         = true
  cloud_watch_logs_group_arn    = "${aws_cloudwatch_log_group.this.arn}:*"
  cloud_watch_logs_role_arn     = aws_iam_role.delivery.arn
  tags                          = local.tags

  # Calls to KMS are management events, uses of keys too. They are there because nothing is excluded:
  # `exclude_management_event_sources` could leave out kms.amazonaws.com, and is not set.
  event_selector {
    read_write_type           = "All"
    include_management_events = true
  }

  # checkov:skip=CKV_AWS_252: a notification per log file would tell nothing; what matters goes to a topic through EventBridge

  depends_on = [aws_s3_bucket_policy.this]
}

resource "aws_s3_bucket" "this" {
  bucket              = var.bucket_name
  force_destroy       = false
  object_lock_enabled = var.object_lock_mode != null
  tags                = local.tags

  # checkov:skip=CKV_AWS_18: the trail itself records the calls that change this bucket; a log of the log's reads is data events of the logs account
  # checkov:skip=CKV_AWS_144: log files go to one region on purpose, that of the keys; another copy is the logs account's
  # checkov:skip=CKV2_AWS_62: nobody waits for log files; calls of interest are told through EventBridge
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  count = var.object_lock_mode != null ? 1 : 0

  bucket = aws_s3_bucket.this.id

  rule {
    default_retention {
      mode = var.object_lock_mode
      days = var.object_lock_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "retention"
    status = "Enabled"

    filter {}

    expiration {
      days = var.retention_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TrailLooksAtTheBucket"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "s3:GetBucketAcl"
        Resource  = "arn:${local.partition}:s3:::${var.bucket_name}"
        Condition = { StringEquals = { "aws:SourceArn" = local.arn } }
      },
      {
        Sid       = "TrailWrites"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "arn:${local.partition}:s3:::${var.bucket_name}/AWSLogs/${local.account}/*"
        Condition = {
          StringEquals = {
            "aws:SourceArn" = local.arn
            "s3:x-amz-acl"  = "bucket-owner-full-control"
          }
        }
      },
      {
        Sid       = "DenyPlaintextTransport"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource = [
          "arn:${local.partition}:s3:::${var.bucket_name}",
          "arn:${local.partition}:s3:::${var.bucket_name}/*",
        ]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        # Expiry by the rule above is no call: nobody needs this right.
        Sid       = "DenyDeletingLogs"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion"]
        Resource  = "arn:${local.partition}:s3:::${var.bucket_name}/*"
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# The same events in a log group: for queries, metrics and alarms within minutes.

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/cloudtrail/${local.name}"
  retention_in_days = var.log_group_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_iam_role" "delivery" {
  name                 = "${local.name}-trail"
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceArn" = local.arn, "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "delivery" {
  name = "deliver"
  role = aws_iam_role.delivery.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/cloudtrail/${local.name}:log-stream:${local.account}_CloudTrail_*"
    }]
  })
}

# Calls that end a key, open it to others, or stop the record.

resource "aws_cloudwatch_event_rule" "keys" {
  name        = "${local.name}-keys"
  description = "A KMS key is disabled, deleted, granted, left unrotated, or its policy or alias changed."
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.kms"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      eventSource = ["kms.amazonaws.com"]
      eventName = [
        "CreateGrant",
        "DeleteAlias",
        "DeleteImportedKeyMaterial",
        "DisableKey",
        "DisableKeyRotation",
        "PutKeyPolicy",
        "ScheduleKeyDeletion",
        "UpdateAlias",
      ]
    }
  })
}

resource "aws_cloudwatch_event_rule" "record" {
  name        = "${local.name}-record"
  description = "A trail is stopped, deleted or changed."
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.cloudtrail"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      eventSource = ["cloudtrail.amazonaws.com"]
      eventName   = ["DeleteTrail", "PutEventSelectors", "StopLogging", "UpdateTrail"]
    }
  })
}

resource "aws_cloudwatch_event_target" "keys" {
  count = var.alert_topic_arn != null ? 1 : 0

  rule = aws_cloudwatch_event_rule.keys.name
  arn  = var.alert_topic_arn
}

resource "aws_cloudwatch_event_target" "record" {
  count = var.alert_topic_arn != null ? 1 : 0

  rule = aws_cloudwatch_event_rule.record.name
  arn  = var.alert_topic_arn
}
