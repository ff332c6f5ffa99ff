region      = "eu-central-1"
environment = "prod"

pipeline_role_arns      = ["arn:aws:iam::123456789012:role/pipeline"]
administrator_role_arns = ["arn:aws:iam::123456789012:role/key-admin"]

lambda_role_arns      = ["arn:aws:iam::123456789012:role/lambda-etl"]
fargate_role_arns     = ["arn:aws:iam::123456789012:role/fargate-task"]
glue_role_arns        = ["arn:aws:iam::123456789012:role/glue-job"]
producer_role_arns    = ["arn:aws:iam::123456789012:role/ingest"]
provisioner_role_arns = ["arn:aws:iam::123456789012:role/mint"]
storage_role_arns     = ["arn:aws:iam::123456789012:role/storage"]
log_reader_role_arns  = ["arn:aws:iam::123456789012:role/audit"]

role_services = {
  "arn:aws:iam::123456789012:role/fargate-task" = ["svc-embed"]
  "arn:aws:iam::123456789012:role/glue-job"     = ["svc-etl"]
  "arn:aws:iam::123456789012:role/ingest"       = ["svc-ingest-api"]
  "arn:aws:iam::123456789012:role/lambda-etl"   = ["svc-ingest-api", "svc-etl"]
}

security_account_id = "098765432109"
logs_account_id     = "111111111111"

data_bucket_arns  = ["arn:aws:s3:::neurocipher-prod-raw", "arn:aws:s3:::neurocipher-prod-normalized", "arn:aws:s3:::neurocipher-prod-vector"]
log_bucket_arns   = ["arn:aws:s3:::neurocipher-prod-logs"]
trail_bucket_name = "neurocipher-prod-trail"
