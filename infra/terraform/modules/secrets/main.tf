resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:Rotated here where `rotation_lambda_arn` is given; others have their deadline as a tag, which a report reads.
  for_each = var.secrets

  name                    = "/${var.application}/${var.environment}/${each.key}"
  description             = each.value.description
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 30
  tags                    = merge(var.tags, { "rotate-within-days" = tostring(each.value.rotation_days) })
}

# IAM says who may; this says who may at most: also an administrator of IAM is refused the value.
resource "aws_secretsmanager_secret_policy" "this" {
  for_each = var.secrets

  secret_arn          = aws_secretsmanager_secret.this[each.key].arn
  block_public_policy = true
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyOtherReaders"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue"]
      Resource  = "*"
      Condition = { ArnNotEquals = { "aws:PrincipalArn" = sort(each.value.reader_role_arns) } }
    }]
  })
}

resource "aws_secretsmanager_secret_rotation" "this" {
  #checkov:skip=CKV_AWS_304:Each secret says its own days, a year at most; the stack's are 30 and 90.
  for_each = { for path, secret in var.secrets : path => secret if secret.rotation_lambda_arn != null }

  secret_id           = aws_secretsmanager_secret.this[each.key].id
  rotation_lambda_arn = each.value.rotation_lambda_arn

  # The deadline, not the first turn: the secret has no value yet.
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = each.value.rotation_days
  }
}
