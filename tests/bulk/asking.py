# SPDX-License-Identifier: Apache-2.0
"""A process that asks for a reading, to be killed: CONFIG DATABASE DESTINATION COMMAND..."""

import sys

from sqlalchemy import select

from lacre import acting_as
from lacre.bulk import BulkReader
from tests.sqlalchemy.models import Customer


def main() -> None:
    config, database, destination, *command = sys.argv[1:]
    reader = BulkReader(config=config, database=database, command=command)
    with acting_as("svc:churn", roles={"app"}, purpose="churn model"):
        reader.to_parquet(select(Customer.email), destination, rows=100)


if __name__ == "__main__":
    main()
