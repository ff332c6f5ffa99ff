# SPDX-License-Identifier: Apache-2.0
"""The logs of key services, read beside ours: what they saw and we did not record, and the other way round. Needs duckdb."""
