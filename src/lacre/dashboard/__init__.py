# SPDX-License-Identifier: Apache-2.0
"""
The dashboard: pages that show the policy, the keys and the evidence, and acknowledge alerts.

`lacre serve` runs it. It opens no key and decrypts nothing: what it shows is what an auditor may
read. Does not authenticate people but by the link that its terminal printed.
"""
