# SPDX-License-Identifier: Apache-2.0
"""Protecting tables of SQLite files in place: ``spec/protect-sqlite.md``."""
