provider "aws" {
  region = var.region
}

module "scp_deny_unencrypted_s3" {
  source = "../../modules/scp-deny-unencrypted-s3"

  pipeline_role_arns = var.pipeline_role_arns
}

module "scp_protect_kms_keys" {
  source = "../../modules/scp-protect-kms-keys"

  pipeline_role_arns = var.pipeline_role_arns
}
