resource "aws_organizations_policy" "this" {
  name        = "SCP-ProtectKmsKeys"
  description = "Keys are disabled, deleted, opened to others or left unrotated by the pipeline alone."
  type        = "SERVICE_CONTROL_POLICY"
  tags        = var.tags

  content = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "DenyEndingAndOpeningKeys"
        Effect = "Deny"
        Action = [
          "kms:DeleteAlias",
          "kms:DeleteImportedKeyMaterial",
          "kms:DisableKey",
          "kms:DisableKeyRotation",
          "kms:PutKeyPolicy",
          "kms:ScheduleKeyDeletion",
          "kms:UpdateAlias",
        ]
        Resource  = "*"
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = sort(var.pipeline_role_arns) } }
      },
      {
        # Nobody makes a key that its own policy can lock everybody out of.
        Sid       = "DenyBypassOfTheLockoutCheck"
        Effect    = "Deny"
        Action    = ["kms:CreateKey", "kms:PutKeyPolicy"]
        Resource  = "*"
        Condition = { Bool = { "kms:BypassPolicyLockoutSafetyCheck" = "true" } }
      },
      {
        # The waiting time is a defence only while nobody may shorten it.
        Sid       = "DenyShortDeletionWindows"
        Effect    = "Deny"
        Action    = "kms:ScheduleKeyDeletion"
        Resource  = "*"
        Condition = { NumericLessThan = { "kms:ScheduleKeyDeletionPendingWindowInDays" = tostring(var.deletion_window_days) } }
      },
    ]
  })
}

resource "aws_organizations_policy_attachment" "this" {
  for_each = toset(var.target_ids)

  policy_id = aws_organizations_policy.this.id
  target_id = each.value
}
