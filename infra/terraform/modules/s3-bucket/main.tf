data "aws_partition" "current" {}

locals {
  arn = "arn:${data.aws_partition.current.partition}:s3:::${var.name}"

  transport = [
    {
      Sid       = "DenyPlainHttp"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:*"
      Resource  = [local.arn, "${local.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    {
      Sid       = "DenyOldTls"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:*"
      Resource  = [local.arn, "${local.arn}/*"]
      Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
    },
  ]

  # An upload that says nothing gets the bucket's key; one that asks for something else is refused.
  keys = [for key in var.kms_key_arn == null ? [] : [var.kms_key_arn] : [
    {
      Sid       = "DenyOtherEncryption"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:PutObject"
      Resource  = ["${local.arn}/*"]
      Condition = { StringNotEqualsIfExists = { "s3:x-amz-server-side-encryption" = "aws:kms" } }
    },
    {
      Sid       = "DenyOtherKeys"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:PutObject"
      Resource  = ["${local.arn}/*"]
      Condition = { StringNotEqualsIfExists = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = key } }
    },
  ]]

  distribution = [for arn in var.distribution_arn == null ? [] : [var.distribution_arn] : {
    Sid       = "ReadByTheDistribution"
    Effect    = "Allow"
    Principal = { Service = "cloudfront.amazonaws.com" }
    Action    = "s3:GetObject"
    Resource  = ["${local.arn}/*"]
    Condition = { StringEquals = { "aws:SourceArn" = arn } }
  }]

  # The bucket in which S3 and load balancers themselves write who asked for what.
  logs = [for account in var.log_source_account_id == null ? [] : [var.log_source_account_id] : [
    {
      Sid       = "WriteAccessLogs"
      Effect    = "Allow"
      Principal = { Service = "logging.s3.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = ["${local.arn}/*"]
      Condition = { StringEquals = { "aws:SourceAccount" = account } }
    },
    {
      Sid       = "WriteLoadBalancersLogs"
      Effect    = "Allow"
      Principal = { Service = "logdelivery.elasticloadbalancing.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = ["${local.arn}/AWSLogs/${account}/*"]
      Condition = { ArnLike = { "aws:SourceArn" = "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:${account}:loadbalancer/*" } }
    },
  ]]
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:What a bucket holds stays in its region, as the policy of residency says.
  #checkov:skip=CKV2_AWS_62:Nothing listens to this bucket.
  #checkov:skip=CKV_AWS_18:Access logs are on where `access_log_bucket` names a bucket; the bucket of logs logs nothing of itself.
  #checkov:skip=CKV_AWS_145:SSE-KMS where `kms_key_arn` is given; media, and S3's access logs, which cannot, are under SSE-S3.
  bucket = var.name
  tags   = var.tags
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    # With a bucket key S3 asks KMS for the bucket, not for each object.
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.id

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

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "earlier-versions"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    noncurrent_version_expiration {
      noncurrent_days = var.earlier_versions_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_logging" "this" {
  count = var.access_log_bucket == null ? 0 : 1

  bucket        = aws_s3_bucket.this.id
  target_bucket = var.access_log_bucket
  target_prefix = "${var.name}/"
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({ Version = "2012-10-17", Statement = concat(local.transport, flatten(local.keys), local.distribution, flatten(local.logs)) })

  depends_on = [aws_s3_bucket_public_access_block.this]
}
