variable "kms_key_arn" {
  description = "Key of new volumes and snapshots that name none."
  type        = string
}
