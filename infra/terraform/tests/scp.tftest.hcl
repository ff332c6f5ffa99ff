mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "scp_an_upload_that_asks_for_less_than_a_kms_key_is_denied" {
  command = plan

  module {
    source = "./modules/scp-deny-unencrypted-s3"
  }

  variables {
    pipeline_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
    sse_s3_bucket_arns = ["arn:aws:s3:::media"]
    kms_key_arns       = ["arn:aws:kms:eu-central-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"]
  }

  assert {
    condition     = aws_organizations_policy.this.name == "SCP-DenyUnencryptedS3"
    error_message = "the policy is named as seed 003 names it"
  }

  assert {
    condition     = jsondecode(output.policy_json).Statement[0].NotResource == ["arn:aws:s3:::media/*"]
    error_message = "only the buckets that are named are left out"
  }

  assert {
    condition = jsondecode(output.policy_json).Statement[0].Condition == {
      StringNotEquals = { "s3:x-amz-server-side-encryption" = ["aws:kms", "aws:kms:dsse"] }
      Null            = { "s3:x-amz-server-side-encryption" = "false" }
    }
    error_message = "an upload without the header gets the bucket's default, and is not denied"
  }

  assert {
    condition     = alltrue([for statement in jsondecode(output.policy_json).Statement : statement.Effect == "Deny"])
    error_message = "a service control policy of denials only"
  }
}

run "scp_a_role_with_a_wildcard_is_refused" {
  command = plan

  module {
    source = "./modules/scp-deny-unencrypted-s3"
  }

  variables {
    pipeline_role_arns = ["arn:aws:iam::123456789012:role/*"]
  }

  expect_failures = [var.pipeline_role_arns]
}

run "scp_keys_are_ended_by_the_pipeline_alone" {
  command = plan

  module {
    source = "./modules/scp-protect-kms-keys"
  }

  variables {
    pipeline_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
    target_ids         = ["ou-abcd-11111111"]
  }

  assert {
    condition = alltrue([
      for action in ["kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy"] :
      contains(jsondecode(output.policy_json).Statement[0].Action, action)
    ])
    error_message = "what ends a key or opens it is denied"
  }

  assert {
    condition     = jsondecode(output.policy_json).Statement[0].Condition == { ArnNotEquals = { "aws:PrincipalArn" = ["arn:aws:iam::123456789012:role/pipeline"] } }
    error_message = "to all but the pipeline"
  }

  assert {
    condition     = keys(aws_organizations_policy_attachment.this) == ["ou-abcd-11111111"]
    error_message = "the policy is attached where it was asked"
  }
}

run "scp_the_pipeline_is_named" {
  command = plan

  module {
    source = "./modules/scp-protect-kms-keys"
  }

  variables {
    pipeline_role_arns = []
  }

  expect_failures = [var.pipeline_role_arns]
}
