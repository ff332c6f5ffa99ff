# SPDX-License-Identifier: Apache-2.0
"""The process that reads: ``python -m lacre.bulk``. `lacre.bulk.reader` starts it."""

from lacre.bulk.process import serve

if __name__ == "__main__":
    serve()
