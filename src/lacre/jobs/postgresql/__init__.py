# SPDX-License-Identifier: Apache-2.0
"""Protecting tables of PostgreSQL databases in place: ``spec/protect-postgresql.md``."""
