resource "aws_cloudwatch_log_group" "this" {
  for_each = var.names

  name              = each.value
  kms_key_id        = var.kms_key_arn
  retention_in_days = var.retention_days
  tags              = var.tags
}
