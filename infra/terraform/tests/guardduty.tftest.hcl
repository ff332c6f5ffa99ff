mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "guardduty_watches_and_tells" {
  command = plan

  module {
    source = "./modules/guardduty"
  }

  variables {
    environment     = "prod"
    alert_topic_arn = "arn:aws:sns:eu-central-1:123456789012:security"
  }

  assert {
    condition     = aws_guardduty_detector.this.enable && aws_guardduty_detector.this.finding_publishing_frequency == "FIFTEEN_MINUTES"
    error_message = "the detector is on"
  }

  assert {
    condition     = alltrue([for feature in aws_guardduty_detector_feature.this : feature.status == "ENABLED"])
    error_message = "so are its features"
  }

  assert {
    condition     = aws_cloudwatch_event_target.findings[0].arn == var.alert_topic_arn
    error_message = "findings are told to the topic"
  }
}
