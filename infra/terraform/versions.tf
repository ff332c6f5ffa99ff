# Nothing is deployed from here: so that `terraform init` and `terraform test` run the tests of all modules.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.80"
    }
  }
}
