# Modules that are planned beside the stacks, each with a key whose ARN is known: so that the plan can be compared with it.

module "given_database" {
  source = "./modules/rds-postgresql"

  name                  = "given"
  kms_key_arn           = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  secrets_kms_key_arn   = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000002"
  database_name         = "given"
  restore_from_snapshot = "given-before-encryption"
  subnet_ids            = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  security_group_ids    = ["sg-0123456789abcdef0"]
}

module "given_documents" {
  source = "./modules/s3-bucket"

  name        = "given-documents"
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
}

module "given_cache" {
  source = "./modules/elasticache-redis"

  name               = "given"
  kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  subnet_ids         = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  security_group_ids = ["sg-0123456789abcdef0"]
}

module "given_volumes" {
  source = "./modules/ebs-defaults"

  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
}

module "given_table" {
  source = "./modules/dynamodb-table"

  name        = "given"
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  hash_key    = "id"
}

module "given_secrets" {
  source = "./modules/secrets"

  application = "given"
  environment = "test"
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  secrets = {
    "database/primary" = { description = "Credentials.", rotation_days = 30, reader_role_arns = ["arn:aws:iam::123456789012:role/api"] }
  }
}

module "given_logs" {
  source = "./modules/log-groups"

  names       = ["/given"]
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
}

module "given_topic" {
  source = "./modules/msk"

  name               = "given"
  kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  subnet_ids         = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
  security_group_ids = ["sg-0123456789abcdef0"]
  log_group_name     = "/given"
}

module "given_queue" {
  source = "./modules/sqs-queue"

  name               = "given"
  kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  sender_role_arns   = ["arn:aws:iam::123456789012:role/generator"]
  receiver_role_arns = ["arn:aws:iam::123456789012:role/producer"]
}

module "given_images" {
  source = "./modules/ecr"

  names       = ["given"]
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
}

module "given_alarms" {
  source = "./modules/alarms"

  name        = "given"
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
}

module "given_rules" {
  source = "./modules/config-rules"

  name                  = "given"
  database_kms_key_arn  = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
  documents_kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000002"
  documents_bucket      = "given-documents"
  volumes_kms_key_arn   = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000003"
  tables_kms_key_arn    = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000004"
  secrets_kms_key_arn   = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000005"
}
