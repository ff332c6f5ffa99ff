# SPDX-License-Identifier: Apache-2.0
"""``python -m lacre.cli``: the command line where its script is not on the path."""

from lacre.cli import main

main()
