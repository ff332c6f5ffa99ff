data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  prefix = "arn:${data.aws_partition.current.partition}:sqs:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
  queues = { queue = aws_sqs_queue.this, dead = aws_sqs_queue.dead }
}

resource "aws_sqs_queue" "dead" {
  name                              = "${var.name}-dead"
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 300
  message_retention_seconds         = 1209600
  tags                              = var.tags
}

resource "aws_sqs_queue" "this" {
  name                              = var.name
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 300
  visibility_timeout_seconds        = var.visibility_timeout_seconds
  message_retention_seconds         = var.retention_seconds
  receive_wait_time_seconds         = 20
  tags                              = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = var.attempts
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url = aws_sqs_queue.dead.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = ["${local.prefix}:${aws_sqs_queue.this.name}"]
  })
}

# IAM says who may; this says who may at most, and how.
resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  queue_url = each.value.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "DenyPlainHttp"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "sqs:*"
        Resource  = "${local.prefix}:${each.value.name}"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for senders in [sort(var.sender_role_arns)] : {
        Sid       = "DenyOtherSenders"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "sqs:SendMessage"
        Resource  = "${local.prefix}:${each.value.name}"
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = senders } }
      } if each.key == "queue"],
      [for receivers in [sort(var.receiver_role_arns)] : {
        Sid       = "DenyOtherReceivers"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "sqs:ReceiveMessage"
        Resource  = "${local.prefix}:${each.value.name}"
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = receivers } }
      }],
    )
  })
}
