# SPDX-License-Identifier: Apache-2.0
"""
The names that AWS gives meaning to: actions of KMS, condition keys, and which of them a request always has.

Tables only. From the "Service Authorization Reference" of AWS KMS and the page "AWS global condition
context keys". A name that is not here is refused where it stands in a document: a misspelt action or key
of a denial denies nothing, and nobody would notice.
"""

from typing import Final

from lacre.errors import PolicyNotUnderstood

__all__ = ["ACROSS_ACCOUNTS", "KMS_ACTIONS", "WITH_CONTEXT", "always_there", "has_several"]


def _words(text: str) -> list[str]:
    return text.split()


_OPERATIONS: Final = """
CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateGrant CreateKey Decapsulate Decrypt
DeleteAlias DeleteCustomKeyStore DeleteImportedKeyMaterial DeriveSharedSecret DescribeCustomKeyStores DescribeKey
DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey EnableKeyRotation Encapsulate Encrypt GenerateDataKey
GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom
GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey ImportKeyMaterial ListAliases
ListGrants ListKeyPolicies ListKeyRotations ListKeys ListResourceTags ListRetirableGrants PutKeyPolicy ReplicateKey
RetireGrant RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion Sign TagResource UntagResource UpdateAlias
UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac
"""

# `ReEncrypt` is two actions, one for each key; `SynchronizeMultiRegionKey` is no operation.
KMS_ACTIONS: Final = frozenset(
    f"kms:{name}"
    for name in [*_words(_OPERATIONS), "ReEncryptFrom", "ReEncryptTo", "SynchronizeMultiRegionKey"]
)

# "Allowing users in other accounts to use a KMS key": whatever else a policy says, these only.
ACROSS_ACCOUNTS: Final = frozenset(
    f"kms:{name}"
    for name in _words("""
    CreateGrant Decrypt DeriveSharedSecret DescribeKey Encrypt GenerateDataKey GenerateDataKeyPair
    GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac GetKeyRotationStatus GetPublicKey
    ListGrants ReEncryptFrom ReEncryptTo RetireGrant RevokeGrant Sign Verify VerifyMac
    """)
)

# The operations that take an encryption context: what the constraints of a grant look at.
WITH_CONTEXT: Final = frozenset(
    f"kms:{name}"
    for name in _words("""
    Decrypt Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
    GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo
    """)
)

# Lower-case, as names of condition keys are compared. Keys of other services are believed as they stand.
_GLOBAL: Final = _words("""
calledvia calledviafirst calledvialast currenttime ec2instancesourceprivateipv4 ec2instancesourcevpc epochtime
federatedprovider multifactorauthage multifactorauthpresent principalaccount principalarn principalisawsservice
principalorgid principalorgpaths principalservicename principalservicenameslist principaltype referer
requestedregion resourceaccount resourceorgid resourceorgpaths securetransport sourceaccount sourcearn sourceidentity
sourceip sourceorgid sourceorgpaths sourcevpc sourcevpcarn sourcevpce tagkeys tokenissuetime useragent userid username
viaawsservice vpceaccount vpceorgid vpceorgpaths vpcsourceip
""")
_OF_KMS: Final = _words("""
bypasspolicylockoutsafetycheck calleraccount customermasterkeyspec customermasterkeyusage datakeypairspec
encryptionalgorithm encryptioncontextkeys expirationmodel grantconstrainttype granteeprincipal grantisforawsresource
grantoperations keyagreementalgorithm keyorigin keyspec keyusage macalgorithm messagetype multiregion
multiregionkeytype primaryregion reencryptonsamekey replicaregion requestalias resourcealiases retiringprincipal
rotationperiodindays schedulekeydeletionpendingwindowindays signingalgorithm validto viaservice wrappingalgorithm
wrappingkeyspec
""")
_NAMES: Final = frozenset([f"aws:{name}" for name in _GLOBAL] + [f"kms:{name}" for name in _OF_KMS])
_BEGINNINGS: Final = (
    "aws:principaltag/", "aws:requesttag/", "aws:resourcetag/", "kms:encryptioncontext:", "kms:recipientattestation:",
)  # fmt: skip
_SEVERAL: Final = frozenset({
    "aws:calledvia", "aws:principalorgpaths", "aws:principalservicenameslist", "aws:resourceorgpaths",
    "aws:sourceorgpaths", "aws:tagkeys", "aws:vpceorgpaths", "kms:encryptioncontextkeys", "kms:grantoperations",
    "kms:resourcealiases",
})  # fmt: skip

# What a request leaves out where there is nothing to say. Everything else it always has, or nobody but who asks can
# know whether it has.
_MAY_BE_ABSENT: Final = frozenset({
    "aws:calledvia", "aws:calledviafirst", "aws:calledvialast", "aws:federatedprovider", "aws:principalservicename",
    "aws:principalservicenameslist", "aws:referer", "aws:sourceaccount", "aws:sourcearn", "aws:sourceidentity",
    "aws:sourceorgid", "aws:sourceorgpaths", "aws:sourcevpc", "aws:sourcevpcarn", "aws:sourcevpce", "aws:tagkeys",
    "aws:vpceaccount", "aws:vpceorgid", "aws:vpceorgpaths", "aws:vpcsourceip", "kms:encryptioncontextkeys",
    "kms:grantconstrainttype", "kms:requestalias", "kms:retiringprincipal", "kms:viaservice",
})  # fmt: skip
# Of a request for something else than these they are absent.
_OF_ACTIONS: Final = {
    "kms:granteeprincipal": ("kms:creategrant",),
    "kms:grantisforawsresource": ("kms:creategrant", "kms:revokegrant"),
    "kms:grantoperations": ("kms:creategrant",),
    "kms:reencryptonsamekey": ("kms:reencryptfrom", "kms:reencryptto"),
    "kms:schedulekeydeletionpendingwindowindays": ("kms:schedulekeydeletion",),
    "kms:bypasspolicylockoutsafetycheck": ("kms:createkey", "kms:putkeypolicy", "kms:replicatekey"),
    "kms:rotationperiodindays": ("kms:enablekeyrotation",),
    "kms:replicaregion": ("kms:replicatekey",),
    "kms:primaryregion": ("kms:updateprimaryregion",),
}


def has_several(key: str) -> bool:
    """
    Whether the condition key *key* has several values in one request.

    Raises:
        PolicyNotUnderstood: AWS has no such key, among its own or those of KMS.
    """
    if key.startswith(("aws:", "kms:")) and key not in _NAMES and not key.startswith(_BEGINNINGS):
        raise PolicyNotUnderstood(f"the condition key {key!r}: there is none of that name")
    if ":" not in key:
        raise PolicyNotUnderstood(f"the condition key {key!r}: it begins with no service")
    return key in _SEVERAL


def always_there(key: str, action: str) -> bool:
    """Whether a request for *action* has *key*, so that one which does not tell it was told incompletely."""
    if key in _OF_ACTIONS:
        return action in _OF_ACTIONS[key]
    if not key.startswith(("aws:", "kms:")) or key.startswith(
        ("kms:encryptioncontext:", "aws:requesttag/")
    ):
        return False
    return key not in _MAY_BE_ABSENT
