# SPDX-License-Identifier: Apache-2.0
"""
Channels of alerts: a signed webhook, Slack, mail, SNS, the log of the process.

Each says of a failure which kind it was, and nothing that its receiver sent or its address holds.
"""
