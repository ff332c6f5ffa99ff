mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "stores_rds_refuses_an_alias_and_the_expired_authority" {
  command = plan

  module {
    source = "./modules/rds-postgresql"
  }

  variables {
    name                = "shop"
    kms_key_arn         = "arn:aws:kms:eu-central-1:123456789012:alias/shop"
    secrets_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000002"
    ca_cert_identifier  = "rds-ca-2019"
    database_name       = "shop"
    subnet_ids          = ["subnet-0123456789abcdef0"]
    security_group_ids  = ["sg-0123456789abcdef0"]
  }

  expect_failures = [var.kms_key_arn, var.ca_cert_identifier, var.subnet_ids]
}

run "stores_secrets_refuse_a_data_key_no_readers_and_no_end" {
  command = plan

  module {
    source = "./modules/secrets"
  }

  variables {
    application = "shop"
    environment = "prod"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
    secrets = {
      "internal/encryption-dek" = { description = "A data key.", rotation_days = 3650, reader_role_arns = [] }
    }
  }

  expect_failures = [var.secrets]
}
