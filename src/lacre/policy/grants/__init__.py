# SPDX-License-Identifier: Apache-2.0
"""Grants: a principal's right, for a purpose, with approvers and an end."""
