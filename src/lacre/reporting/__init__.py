# SPDX-License-Identifier: Apache-2.0
"""Compliance reports: the facts gathered into a signed snapshot, and the snapshot rendered."""
