locals {
  # An upload without a header gets the bucket's default encryption: only a header that asks for less is refused.
  not_under_a_kms_key = {
    StringNotEquals = { "s3:x-amz-server-side-encryption" = ["aws:kms", "aws:kms:dsse"] }
    Null            = { "s3:x-amz-server-side-encryption" = "false" }
  }
  objects = {
    for element, arns in {
      Resource    = ["*"]
      NotResource = sort([for arn in var.sse_s3_bucket_arns : "${arn}/*"])
    } : element => arns if length(arns) > 0 && (element == "NotResource" || length(var.sse_s3_bucket_arns) == 0)
  }

  only_these_keys = {
    Sid      = "DenyOtherKmsKeys"
    Effect   = "Deny"
    Action   = "s3:PutObject"
    Resource = "*"
    Condition = {
      ArnNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = sort(var.kms_key_arns) }
      Null         = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
    }
  }

  statements = concat(
    [
      merge({
        Sid       = "DenyObjectsNotUnderAKmsKey"
        Effect    = "Deny"
        Action    = "s3:PutObject"
        Condition = local.not_under_a_kms_key
      }, local.objects),
      {
        Sid       = "DenyPlaintextTransport"
        Effect    = "Deny"
        Action    = "s3:*"
        Resource  = "*"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "DenyChangingBucketEncryption"
        Effect    = "Deny"
        Action    = "s3:PutEncryptionConfiguration"
        Resource  = "*"
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = sort(var.pipeline_role_arns) } }
      },
    ],
    [for statement in [local.only_these_keys] : statement if length(var.kms_key_arns) > 0],
  )
}

resource "aws_organizations_policy" "this" {
  name        = "SCP-DenyUnencryptedS3"
  description = "Objects in S3 are stored under customer-managed KMS keys, and travel over TLS."
  type        = "SERVICE_CONTROL_POLICY"
  tags        = var.tags

  content = jsonencode({
    Version   = "2012-10-17"
    Statement = local.statements
  })
}

resource "aws_organizations_policy_attachment" "this" {
  for_each = toset(var.target_ids)

  policy_id = aws_organizations_policy.this.id
  target_id = each.value
}
