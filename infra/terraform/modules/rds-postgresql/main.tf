resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres${var.major_version}"
  description = "${var.name}: TLS only"
  tags        = var.tags

  # A connection without TLS is refused by the server, whatever the client asks.
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "ssl_min_protocol_version"
    value = "TLSv1.2"
  }

  # Statements of schema only: the others hold values.
  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  parameter {
    name  = "log_parameter_max_length"
    value = "0"
  }

  parameter {
    name  = "log_parameter_max_length_on_error"
    value = "0"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_subnet_group" "this" {
  name_prefix = "${var.name}-"
  description = var.name
  subnet_ids  = var.subnet_ids
  tags        = var.tags
}

# A snapshot is restored under the key that it is under: so it is copied under the right one first.
resource "aws_db_snapshot_copy" "encrypted" {
  count = var.restore_from_snapshot == null ? 0 : 1

  source_db_snapshot_identifier = var.restore_from_snapshot
  target_db_snapshot_identifier = "${var.name}-encrypted"
  kms_key_id                    = var.kms_key_arn
  copy_tags                     = true
  tags                          = var.tags
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118:Enhanced monitoring shows processes of the host; CloudWatch has what is watched here.
  #checkov:skip=CKV_AWS_353:Performance Insights keeps the text of statements, which may hold values.
  #checkov:skip=CKV_AWS_354:Performance Insights is off.
  #checkov:skip=CKV2_AWS_30:Logging every statement would log values; statements of schema are logged.
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.major_version
  instance_class = var.instance_class

  db_name                       = var.restore_from_snapshot == null ? var.database_name : null
  username                      = var.restore_from_snapshot == null ? var.master_username : null
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.secrets_kms_key_arn

  iam_database_authentication_enabled = true

  allocated_storage     = var.allocated_storage_gib
  max_allocated_storage = var.allocated_storage_gib * 4
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn
  snapshot_identifier   = one(aws_db_snapshot_copy.encrypted[*].target_db_snapshot_identifier)

  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = var.ca_cert_identifier
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = var.security_group_ids
  publicly_accessible    = false
  multi_az               = true

  backup_retention_period    = var.backup_retention_days
  copy_tags_to_snapshot      = true
  deletion_protection        = true
  skip_final_snapshot        = false
  final_snapshot_identifier  = "${var.name}-final"
  auto_minor_version_upgrade = true

  performance_insights_enabled    = false
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  tags = var.tags

  lifecycle {
    # The snapshot was the beginning, and is no state: without it the instance stays.
    ignore_changes = [snapshot_identifier]
  }
}
