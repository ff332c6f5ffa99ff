# SPDX-License-Identifier: Apache-2.0
"""
The pages: each a function from what is known and what was asked to what is shown.

Text goes to the templates as it is: they escape it.
"""
