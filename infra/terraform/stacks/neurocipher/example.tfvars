region             = "eu-central-1"
pipeline_role_arns = ["arn:aws:iam::123456789012:role/pipeline"]
