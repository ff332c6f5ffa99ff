output "kms_key_arn" {
  description = "Key of new volumes and snapshots that name none."
  value       = aws_ebs_default_kms_key.this.key_arn
}
