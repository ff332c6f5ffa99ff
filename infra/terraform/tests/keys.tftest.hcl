mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "keys_of_a_context_are_minted_by_one_and_opened_by_another" {
  command = plan

  module {
    source = "./modules/context-key"
  }

  variables {
    name                    = "pii-fields"
    description             = "Keys of the class pii."
    context                 = { app = "shop", env = "prod" }
    present                 = ["tenant"]
    mint_role_arns          = ["arn:aws:iam::123456789012:role/run"]
    open_role_arns          = ["arn:aws:iam::123456789012:role/run"]
    administrator_role_arns = ["arn:aws:iam::123456789012:role/administrator"]
    deploy_role_arn         = "arn:aws:iam::123456789012:role/deploy"
  }

  expect_failures = [var.mint_role_arns]
}

run "keys_of_a_context_are_administered_by_nobody_who_uses_them" {
  command = plan

  module {
    source = "./modules/context-key"
  }

  variables {
    name                    = "pii-fields"
    description             = "Keys of the class pii."
    context                 = { app = "shop", env = "prod" }
    mint_role_arns          = ["arn:aws:iam::123456789012:role/mint"]
    open_role_arns          = ["arn:aws:iam::123456789012:role/run"]
    administrator_role_arns = ["arn:aws:iam::123456789012:role/run"]
    deploy_role_arn         = "arn:aws:iam::123456789012:role/deploy"
  }

  expect_failures = [var.administrator_role_arns]
}

run "keys_of_a_context_refuse_wildcards_and_nothing_to_be_bound_to" {
  command = plan

  module {
    source = "./modules/context-key"
  }

  variables {
    name                    = "pii-fields"
    description             = "Keys of the class pii."
    context                 = {}
    mint_role_arns          = ["arn:aws:iam::123456789012:role/mint"]
    open_role_arns          = ["arn:aws:iam::123456789012:root"]
    administrator_role_arns = ["arn:aws:iam::123456789012:role/administrator"]
    deploy_role_arn         = "*"
    deletion_window_days    = 3
  }

  expect_failures = [var.context, var.open_role_arns, var.deploy_role_arn, var.deletion_window_days]
}

run "keys_of_a_store_refuse_users_where_the_service_uses_them_itself" {
  command = plan

  module {
    source = "./modules/storage-key"
  }

  variables {
    name                    = "aws/database"
    description             = "The database."
    service                 = "rds"
    reader_role_arns        = ["arn:aws:iam::123456789012:role/api"]
    writer_role_arns        = ["arn:aws:iam::123456789012:role/*"]
    administrator_role_arns = ["arn:aws:iam::123456789012:role/administrator"]
    deploy_role_arn         = "arn:aws:iam::123456789012:role/deploy"
  }

  expect_failures = [var.name, var.reader_role_arns, var.writer_role_arns]
}

run "keys_of_logs_are_bound_to_log_groups_and_apart_from_deploying" {
  command = plan

  module {
    source = "./modules/storage-key"
  }

  variables {
    name                    = "logs"
    description             = "Log groups."
    service                 = "logs"
    administrator_role_arns = ["arn:aws:iam::123456789012:role/deploy"]
    deploy_role_arn         = "arn:aws:iam::123456789012:role/deploy"
  }

  expect_failures = [var.context, var.administrator_role_arns]
}
