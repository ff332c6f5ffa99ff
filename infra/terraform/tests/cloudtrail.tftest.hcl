mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "cloudtrail_records_every_call_and_proves_its_files" {
  command = plan

  module {
    source = "./modules/cloudtrail"
  }

  variables {
    environment      = "prod"
    bucket_name      = "neurocipher-prod-trail"
    kms_key_arn      = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-4000-8000-000000000002"
    object_lock_mode = "COMPLIANCE"
    alert_topic_arn  = "arn:aws:sns:eu-central-1:123456789012:security"
  }

  assert {
    condition = (
      aws_cloudtrail.this.name == "nc-dp-prod" && aws_cloudtrail.this.enable_logging && aws_cloudtrail.this.enable_log_file_validation
      && aws_cloudtrail.this.is_multi_region_trail && aws_cloudtrail.this.include_global_service_events
    )
    error_message = "the trail records in all regions, with digests of its files"
  }

  assert {
    condition = (
      aws_cloudtrail.this.event_selector[0].read_write_type == "All" && aws_cloudtrail.this.event_selector[0].include_management_events
      && length(coalesce(aws_cloudtrail.this.event_selector[0].exclude_management_event_sources, [])) == 0
    )
    error_message = "uses of keys are not left out"
  }

  assert {
    condition     = aws_cloudtrail.this.kms_key_id == var.kms_key_arn && aws_cloudwatch_log_group.this.kms_key_id == var.kms_key_arn
    error_message = "files and log group are under the logs key"
  }

  assert {
    condition     = aws_s3_bucket.this.object_lock_enabled && aws_s3_bucket_object_lock_configuration.this[0].rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "files are locked where that was asked"
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Condition.StringEquals["aws:SourceArn"], "") == "arn:aws:cloudtrail:eu-central-1:123456789012:trail/nc-dp-prod" if statement.Effect == "Allow"
    ])
    error_message = "only this trail writes to the bucket"
  }

  assert {
    condition = alltrue([
      for name in ["DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion", "CreateGrant"] :
      contains(jsondecode(aws_cloudwatch_event_rule.keys.event_pattern).detail.eventName, name)
    ]) && aws_cloudwatch_event_target.keys[0].arn == var.alert_topic_arn
    error_message = "what ends or opens a key is told"
  }
}

run "cloudtrail_refuses_an_alias_an_unknown_lock_and_short_retention" {
  command = plan

  module {
    source = "./modules/cloudtrail"
  }

  variables {
    environment      = "prod"
    bucket_name      = "neurocipher-prod-trail"
    kms_key_arn      = "arn:aws:kms:eu-central-1:123456789012:alias/nc-dp-logs-prod"
    object_lock_mode = "SOFT"
    retention_days   = 30
  }

  expect_failures = [
    var.kms_key_arn,
    var.object_lock_mode,
    var.retention_days,
  ]
}
