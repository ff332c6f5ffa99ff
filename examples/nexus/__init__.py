# SPDX-License-Identifier: Apache-2.0
"""Nexus: a service that holds people's data, with FastAPI, SQLAlchemy, asyncpg and lacre."""
