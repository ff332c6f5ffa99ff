# SPDX-License-Identifier: Apache-2.0
"""Floor 4: jobs that move a database from one form to another, and survive being killed."""
