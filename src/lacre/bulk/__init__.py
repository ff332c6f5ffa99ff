# SPDX-License-Identifier: Apache-2.0
"""
Reading in bulk, to Arrow and Parquet: in a process of its own, with a purpose, a budget and evidence.

What is asked crosses as a description, never as pickled objects or SQL (ADR 0028). Does not write
to the database, and streams no events.
"""

from lacre.bulk.reader import BulkReader, BulkReport

__all__ = ["BulkReader", "BulkReport"]
