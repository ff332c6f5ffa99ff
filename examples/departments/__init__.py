# SPDX-License-Identifier: Apache-2.0
"""The pipeline of seed 004: one topic, many departments. README.md says what is here."""
