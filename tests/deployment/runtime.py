# SPDX-License-Identifier: Apache-2.0
"""
What a function platform does: import the handler, then answer one event at a time.

Run as ``python -m runtime`` in the function's directory; events and answers are lines of JSON.
The first line says how long the import took.
"""

import importlib
import json
import sys
import time


def serve() -> None:
    """Answer until standard input ends."""
    began = time.monotonic()
    module = importlib.import_module("handler")
    print(json.dumps({"imported": time.monotonic() - began}), flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        try:
            answer = {"answer": module.handler(json.loads(line), None)}
        except Exception as error:
            answer = {"error": type(error).__name__}
        print(json.dumps(answer | {"took": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    serve()
