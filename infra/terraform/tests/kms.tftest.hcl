mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "kms_as_seed_003_calls_it" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment = "prod"

    enable_key_rotation  = true
    deletion_window_days = 30

    lambda_role_arns  = ["arn:aws:iam::123456789012:role/lambda-etl"]
    fargate_role_arns = ["arn:aws:iam::123456789012:role/fargate-task"]

    security_account_id = "098765432109"
    logs_account_id     = "111111111111"

    tags = {
      Environment = "prod"
      Project     = "neurocipher-platform"
      ManagedBy   = "terraform"
    }
  }

  assert {
    condition     = [output.data_key_alias, output.logs_key_alias] == ["alias/nc-dp-data-prod", "alias/nc-dp-logs-prod"]
    error_message = "the aliases are seed 003's"
  }

  assert {
    condition     = output.data_key_id == aws_kms_key.data.key_id && output.data_key_arn == aws_kms_key.data.arn && output.logs_key_id == aws_kms_key.logs.key_id && output.logs_key_arn == aws_kms_key.logs.arn
    error_message = "the outputs are seed 003's"
  }

  assert {
    condition     = alltrue([for key in [aws_kms_key.data, aws_kms_key.logs] : key.enable_key_rotation && key.rotation_period_in_days == 365 && key.deletion_window_in_days == 30 && key.bypass_policy_lockout_safety_check == false && key.multi_region == false])
    error_message = "both keys rotate each year, wait 30 days, stay in their region, and cannot lock their owner out"
  }

  assert {
    condition     = aws_kms_key.logs.tags == tomap({ Environment = "prod", Project = "neurocipher-platform", ManagedBy = "terraform" })
    error_message = "the tags are those that were given"
  }

  assert {
    condition     = [for statement in jsondecode(output.data_key_policy).Statement : statement.Principal.AWS if statement.Sid == "Deploy"][0] == ["arn:aws:iam::123456789012:role/pipeline"]
    error_message = "where no deployer is named, it is the role that runs Terraform"
  }
}

run "kms_whole" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment          = "prod"
    enable_key_rotation  = true
    deletion_window_days = 30
    lambda_role_arns     = ["arn:aws:iam::123456789012:role/lambda-etl"]
    fargate_role_arns    = ["arn:aws:iam::123456789012:role/fargate-task"]
    glue_role_arns       = ["arn:aws:iam::123456789012:role/glue-job"]
    security_account_id  = "098765432109"
    logs_account_id      = "111111111111"

    deployer_role_arns      = ["arn:aws:iam::123456789012:role/pipeline"]
    administrator_role_arns = ["arn:aws:iam::123456789012:role/key-admin"]
    producer_role_arns      = ["arn:aws:iam::123456789012:role/ingest"]
    provisioner_role_arns   = ["arn:aws:iam::123456789012:role/mint"]
    storage_role_arns       = ["arn:aws:iam::123456789012:role/storage"]
    log_reader_role_arns    = ["arn:aws:iam::123456789012:role/audit"]
    role_services           = { "arn:aws:iam::123456789012:role/lambda-etl" = ["svc-ingest-api"] }
    s3_bucket_arns          = ["arn:aws:s3:::raw", "arn:aws:s3:::normalized", "arn:aws:s3:::vector"]

    tags = {
      Environment = "prod"
      Project     = "neurocipher-platform"
      ManagedBy   = "terraform"
    }
  }

  assert {
    condition     = alltrue([for statement in concat(jsondecode(output.data_key_policy).Statement, jsondecode(output.logs_key_policy).Statement) : alltrue([for action in flatten([statement.Action]) : !strcontains(action, "*")])])
    error_message = "no statement has an action with a wildcard"
  }

  assert {
    condition     = alltrue([for statement in concat(jsondecode(output.data_key_policy).Statement, jsondecode(output.logs_key_policy).Statement) : lookup(statement.Principal, "AWS", "") != "*"])
    error_message = "no statement is for everybody"
  }

  assert {
    condition     = alltrue([for policy in [output.data_key_policy, output.logs_key_policy] : length(distinct(jsondecode(policy).Statement[*].Sid)) == length(jsondecode(policy).Statement)])
    error_message = "each statement has a name of its own"
  }

  assert {
    condition     = alltrue([for policy in [output.data_key_policy, output.logs_key_policy] : length(policy) < 32768])
    error_message = "AWS takes policies of up to 32 KiB"
  }
}

run "kms_refuses_what_is_no_role_no_account_and_no_environment" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment         = "production"
    deployer_role_arns  = ["arn:aws:iam::123456789012:role/pipeline"]
    lambda_role_arns    = ["arn:aws:iam::123456789012:role/*"]
    fargate_role_arns   = ["arn:aws:iam::123456789012:user/ana"]
    glue_role_arns      = ["arn:aws:sts::123456789012:assumed-role/glue/session"]
    storage_role_arns   = ["*"]
    producer_role_arns  = ["arn:aws:iam::123456789012:root"]
    security_account_id = "12345678901"
    context_pairs       = ["app"]
  }

  expect_failures = [
    var.environment,
    var.lambda_role_arns,
    var.fargate_role_arns,
    var.glue_role_arns,
    var.storage_role_arns,
    var.producer_role_arns,
    var.security_account_id,
    var.context_pairs,
  ]
}

run "kms_refuses_prod_that_does_not_rotate_or_wait" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment          = "prod"
    deployer_role_arns   = ["arn:aws:iam::123456789012:role/pipeline"]
    enable_key_rotation  = false
    deletion_window_days = 7
  }

  expect_failures = [
    var.enable_key_rotation,
    var.deletion_window_days,
  ]
}

run "kms_refuses_times_that_aws_does_not_know" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment          = "dev"
    deployer_role_arns   = ["arn:aws:iam::123456789012:role/pipeline"]
    rotation_period_days = 30
    deletion_window_days = 6
  }

  expect_failures = [
    var.rotation_period_days,
    var.deletion_window_days,
  ]
}

run "kms_refuses_its_own_account_as_another" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment        = "prod"
    deployer_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
    logs_account_id    = "123456789012"
  }

  expect_failures = [aws_kms_key.data]
}

run "kms_refuses_an_administrator_that_uses" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment             = "prod"
    deployer_role_arns      = ["arn:aws:iam::123456789012:role/pipeline"]
    administrator_role_arns = ["arn:aws:iam::123456789012:role/both"]
    lambda_role_arns        = ["arn:aws:iam::123456789012:role/both"]
  }

  expect_failures = [aws_kms_key.data]
}

run "kms_refuses_a_provisioner_that_opens" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment           = "prod"
    deployer_role_arns    = ["arn:aws:iam::123456789012:role/pipeline"]
    provisioner_role_arns = ["arn:aws:iam::123456789012:role/both"]
    lambda_role_arns      = ["arn:aws:iam::123456789012:role/both"]
  }

  expect_failures = [aws_kms_key.data]
}

run "kms_refuses_a_role_of_another_account" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment        = "prod"
    deployer_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
    lambda_role_arns   = ["arn:aws:iam::999999999999:role/lambda"]
  }

  expect_failures = [aws_kms_key.data]
}

run "kms_refuses_another_region" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment        = "prod"
    deployer_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
    region             = "us-east-1"
  }

  expect_failures = [aws_kms_key.data]
}

run "kms_refuses_services_of_a_stranger" {
  command = plan

  module {
    source = "./modules/kms"
  }

  variables {
    environment        = "prod"
    deployer_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
    role_services      = { "arn:aws:iam::123456789012:role/stranger" = ["svc"] }
  }

  expect_failures = [aws_kms_key.data]
}
