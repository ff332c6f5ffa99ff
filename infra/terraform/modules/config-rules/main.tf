locals {
  # Each store of the encryption scope, and what AWS Config looks at. `only` names the one resource that a rule is for.
  rules = {
    rds-storage-encrypted            = { identifier = "RDS_STORAGE_ENCRYPTED", parameters = { kmsKeyId = var.database_kms_key_arn }, only = null }
    rds-snapshots-encrypted          = { identifier = "RDS_SNAPSHOT_ENCRYPTED", parameters = {}, only = null }
    s3-documents-under-kms           = { identifier = "S3_DEFAULT_ENCRYPTION_KMS", parameters = { kmsKeyArns = var.documents_kms_key_arn }, only = { type = "AWS::S3::Bucket", id = var.documents_bucket } }
    s3-buckets-encrypted             = { identifier = "S3_BUCKET_SERVER_SIDE_ENCRYPTION_ENABLED", parameters = {}, only = null }
    s3-tls-only                      = { identifier = "S3_BUCKET_SSL_REQUESTS_ONLY", parameters = {}, only = null }
    elasticache-encrypted-at-rest    = { identifier = "ELASTICACHE_REPL_GRP_ENCRYPTED_AT_REST", parameters = {}, only = null }
    elasticache-encrypted-in-transit = { identifier = "ELASTICACHE_REPL_GRP_ENCRYPTED_IN_TRANSIT", parameters = {}, only = null }
    ebs-encrypted-by-default         = { identifier = "EC2_EBS_ENCRYPTION_BY_DEFAULT", parameters = {}, only = null }
    ebs-volumes-encrypted            = { identifier = "ENCRYPTED_VOLUMES", parameters = { kmsId = var.volumes_kms_key_arn }, only = null }
    dynamodb-under-kms               = { identifier = "DYNAMODB_TABLE_ENCRYPTED_KMS", parameters = { kmsKeyArns = var.tables_kms_key_arn }, only = null }
    secrets-under-kms                = { identifier = "SECRETSMANAGER_USING_CMK", parameters = { kmsKeyArns = var.secrets_kms_key_arn }, only = null }
    secrets-rotated-as-scheduled     = { identifier = "SECRETSMANAGER_SCHEDULED_ROTATION_SUCCESS_CHECK", parameters = {}, only = null }
    log-groups-under-kms             = { identifier = "CLOUDWATCH_LOG_GROUP_ENCRYPTED", parameters = {}, only = null }
    kms-rotation-on                  = { identifier = "CMK_BACKING_KEY_ROTATION_ENABLED", parameters = {}, only = null }
    kms-no-key-about-to-be-deleted   = { identifier = "KMS_CMK_NOT_SCHEDULED_FOR_DELETION", parameters = {}, only = null }
  }
}

resource "aws_config_config_rule" "this" {
  for_each = local.rules

  name             = "${var.name}-${each.key}"
  input_parameters = length(each.value.parameters) == 0 ? null : jsonencode(each.value.parameters)
  tags             = var.tags

  source {
    owner             = "AWS"
    source_identifier = each.value.identifier
  }

  dynamic "scope" {
    for_each = each.value.only[*]

    content {
      compliance_resource_types = [scope.value.type]
      compliance_resource_id    = scope.value.id
    }
  }
}
