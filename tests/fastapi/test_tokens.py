# SPDX-License-Identifier: Apache-2.0
"""A token names a caller only if the pinned issuer signed it, for this service, and it is valid now."""

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from lacre import ConfigurationError, NoPrincipal
from lacre.fastapi import Caller
from tests.fastapi.issuer import Issuer

ISSUER = Issuer()


@pytest.mark.parametrize("algorithm", ["Ed25519", "EdDSA", "ES256", "RS256"])
def test_a_signed_token_names_its_caller(algorithm: str) -> None:
    """Each of the algorithms is verified, by a key set of public keys."""
    issuer = Issuer(algorithm)

    assert issuer.tokens().verify(issuer.token("ana", "support", "app")) == Caller(
        principal="user:ana", roles=frozenset({"support", "app"})
    )


def test_only_the_roles_that_were_named_are_given() -> None:
    """An issuer of other services gives no role that this one did not expect."""
    caller = ISSUER.tokens(roles={"support"}).verify(ISSUER.token("ana", "operator", "support"))

    assert caller.roles == {"support"}


def test_roles_may_be_words_and_have_another_name() -> None:
    """A claim such as `scope` is a string of words."""
    tokens = ISSUER.tokens(roles_claim="scope")

    assert tokens.verify(ISSUER.token(scope="app openid")).roles == {"app"}
    assert tokens.verify(ISSUER.token()).roles == frozenset()


def test_a_tenant_claim_that_is_named_is_required() -> None:
    """A token without its tenant is not one of nobody's data."""
    tokens = ISSUER.tokens(tenant_claim="org")

    assert tokens.verify(ISSUER.token(org="acme")).tenant == "acme"
    with pytest.raises(NoPrincipal):
        tokens.verify(ISSUER.token())


def test_the_application_may_say_how_a_principal_is_called() -> None:
    """Claims become a principal by the application's own words."""
    tokens = ISSUER.tokens(principal=lambda claims: f"svc:{claims['azp']}")

    assert tokens.verify(ISSUER.token(azp="billing")).principal == "svc:billing"
    with pytest.raises(NoPrincipal):
        tokens.verify(ISSUER.token())


NOW = 2_000_000_000.0

REFUSED: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example.org"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "elsewhere"},
    "other audiences": {"aud": ["elsewhere", "there"]},
    "no audience": {"aud": None},
    "expired": {"exp": NOW},
    "no expiry": {"exp": None},
    "an expiry that is no number": {"exp": "tomorrow"},
    "an expiry that never is": {"exp": float("nan")},
    "not yet valid": {"nbf": NOW + 1},
    "issued in the future": {"iat": NOW + 1},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject with a line break": {"sub": "ana\nuser:eve"},
    "a long subject": {"sub": "a" * 300},
    "roles that are a number": {"roles": 7},
    "roles that are a table": {"roles": [{"role": "admin"}]},
    "another type": {"header": {"typ": "JWT"}},
    "an unknown key": {"header": {"kid": "2"}},
    "a critical header": {"header": {"crit": ["exp"], "exp": 1}},
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_a_token_that_is_wrong_is_refused_and_not_quoted(wrong: dict[str, Any]) -> None:
    """Whatever is wrong, the answer is the same, and says neither what nor of whom."""
    tokens = ISSUER.tokens(clock=lambda: NOW, typ="at+jwt")
    right = {"header": {"typ": "at+jwt"}, "exp": NOW + 1}
    given = right | wrong
    if "header" in wrong:
        given["header"] = right["header"] | wrong["header"]
    assert tokens.verify(ISSUER.token(**right)).principal == "user:ana"

    with pytest.raises(NoPrincipal) as caught:
        tokens.verify(ISSUER.token(**given))

    assert str(caught.value) == "the token is not accepted"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_leeway_is_for_clocks_that_differ() -> None:
    """A token that expired within the leeway is taken, and one second later is not."""
    token = ISSUER.token(exp=NOW)

    assert ISSUER.tokens(clock=lambda: NOW + 4, leeway=5).verify(token)
    with pytest.raises(NoPrincipal):
        ISSUER.tokens(clock=lambda: NOW + 5, leeway=5).verify(token)


def _segment(data: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def test_no_signature_is_no_token() -> None:
    """`none`, an empty signature, and a signature over something else are refused."""
    head, claims, signature = ISSUER.token().split(".")
    for forged in (
        f"{_segment({'alg': 'none'})}.{claims}.",
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{_segment({'sub': 'eve'})}.{signature}",
    ):
        with pytest.raises(NoPrincipal):
            ISSUER.tokens().verify(forged)


def test_a_public_key_is_never_a_shared_secret() -> None:
    """A token signed with HMAC under the text of the public key is refused."""
    issuer = Issuer("RS256")
    _, claims, _ = issuer.token().split(".")
    said = f"{_segment({'alg': 'HS256', 'kid': '1'})}.{claims}"
    mac = hmac.digest(issuer.key.as_pem(private=False), said.encode(), "sha256")
    forged = f"{said}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    with pytest.raises(NoPrincipal):
        issuer.tokens().verify(forged)


def test_a_key_that_comes_in_the_token_is_not_believed() -> None:
    """A header may bring a key or its address; the ones that were given count."""
    thief = Issuer()
    for header in ({"jwk": thief.key.as_dict(private=False)}, {"jku": "https://evil.example.org"}):
        with pytest.raises(NoPrincipal):
            ISSUER.tokens().verify(thief.token(header=header))


def test_another_algorithm_of_the_same_key_is_refused() -> None:
    """Pinned is what was named: Ed25519 by its older name is not, unless that is named."""
    old = Issuer("EdDSA")

    with pytest.raises(NoPrincipal):
        Issuer("Ed25519").tokens(keys=old.public()).verify(old.token())


def test_keys_are_replaced_whole() -> None:
    """After `trust` the new keys are believed and the old ones are not."""
    tokens, new = ISSUER.tokens(), Issuer(kid="2")
    tokens.trust(new.public())

    assert tokens.verify(new.token())
    with pytest.raises(NoPrincipal):
        tokens.verify(ISSUER.token())


def test_keys_that_cannot_be_believed_leave_those_of_before() -> None:
    """A document that is no key set changes nothing."""
    tokens = ISSUER.tokens()
    for wrong in ({}, {"keys": []}, {"keys": [{"kty": "OKP"}]}, {"keys": 7}):
        with pytest.raises(ConfigurationError):
            tokens.trust(wrong)

    assert tokens.verify(ISSUER.token())


@pytest.mark.parametrize(
    "key",
    [
        OctKey.generate_key(256),
        OKPKey.generate_key("Ed25519"),
        OKPKey.import_key(OKPKey.generate_key("Ed448").as_dict(private=False)),
        OKPKey.import_key(OKPKey.generate_key("X25519").as_dict(private=False)),
        ECKey.import_key(ECKey.generate_key("P-384").as_dict(private=False)),
        ECKey.import_key(ECKey.generate_key("P-256").as_dict(private=False)),
    ],
    ids=["shared secret", "private", "another curve", "no signing curve", "P-384", "P-256"],
)
def test_keys_that_do_not_fit_are_refused(key: Any) -> None:
    """A secret, a private key, and a key of another algorithm are configuration errors, unquoted."""
    document = {"keys": [key.as_dict(private=key.is_private)]}

    with pytest.raises(ConfigurationError) as caught:
        ISSUER.tokens(keys=document)

    assert not any(
        str(value) in f"{caught.value} {caught.value.hint}"
        for name, value in document["keys"][0].items()
        if name in ("k", "d", "x", "y")
    )


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_a_short_rsa_key_is_refused() -> None:
    """An RSA key of 1024 bits is not taken."""
    weak = RSAKey.generate_key(1024)

    with pytest.raises(ConfigurationError, match="2048"):
        Issuer("RS256").tokens(keys={"keys": [weak.as_dict(private=False)]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": []},
        {"algorithms": "Ed25519"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"roles": "admin"},
        {"issuer": ""},
        {"audience": ""},
    ],
)
def test_settings_that_would_take_too_much_are_refused(wrong: dict[str, Any]) -> None:
    """Nothing is left open by leaving it empty."""
    with pytest.raises(ConfigurationError):
        ISSUER.tokens(**wrong)


TOKENS, TOKEN = ISSUER.tokens(), ISSUER.token()


@given(st.one_of(st.none(), st.text(), st.builds(lambda at, c: TOKEN[:at] + c + TOKEN[at + 1 :], st.integers(0, len(TOKEN) - 5), st.characters())))  # fmt: skip
def test_no_text_is_anything_but_refused(text: str | None) -> None:
    """Whatever is sent in place of a token, and a token with one other character, is `NoPrincipal`."""
    if text == TOKEN:
        return
    with pytest.raises(NoPrincipal):
        TOKENS.verify(text)


def _other(kid: str, **more: Any) -> dict[str, Any]:
    return Issuer(kid=kid).public()["keys"][0] | {"kid": kid} | more


BESIDE: dict[str, Any] = {
    "a kind that is not known": {"kty": "AKP", "kid": "2", "alg": "ML-DSA-44", "pub": "AAAA"},
    "no kind": {"kid": "2"},
    "no whole key": {"kty": "OKP", "kid": "2", "crv": "Ed25519"},
    "no curve that is known": {"kty": "EC", "kid": "2", "crv": "P-9", "x": "AA", "y": "AA"},
    "another algorithm": _other("2", alg="Ed448"),
    "for encryption": _other("2", use="enc"),
    "for something else": _other("2", key_ops=["deriveKey"]),
    "of another kind": RSAKey.generate_key(2048).as_dict(private=False) | {"kid": "2"},
    "no table": 7,
}


@pytest.mark.parametrize("beside", BESIDE)
def test_a_key_that_does_not_fit_is_passed_over(beside: str) -> None:
    """RFC 7517, section 5: the others are believed, it is not, and alone it is refused."""
    issuer = Issuer()
    fitting = issuer.public()["keys"]
    for keys in ([*fitting, BESIDE[beside]], [BESIDE[beside], *fitting]):
        assert ISSUER.tokens(keys={"keys": keys}).verify(issuer.token())

    with pytest.raises(ConfigurationError, match="none of the issuer's keys fits"):
        ISSUER.tokens(keys={"keys": [BESIDE[beside]]})


def test_what_was_signed_by_a_key_that_was_passed_over_is_refused() -> None:
    """A key for encryption, or one of another algorithm, verifies nothing."""
    issuer, other = Issuer(), Issuer(kid="2")
    for wrong in ({"use": "enc"}, {"alg": "ES256"}, {"key_ops": ["encrypt"]}):
        [key] = other.public()["keys"]
        tokens = ISSUER.tokens(keys={"keys": [*issuer.public()["keys"], key | wrong]})
        with pytest.raises(NoPrincipal):
            tokens.verify(other.token())


def test_a_key_may_name_its_algorithm_and_use() -> None:
    """Of an algorithm by its older name only where that was named."""
    issuer = Issuer("Ed25519")
    [key] = issuer.public()["keys"]
    tokens = issuer.tokens(keys={"keys": [key | {"alg": "Ed25519", "use": "sig"}]})

    assert tokens.verify(issuer.token()).principal == "user:ana"
    with pytest.raises(ConfigurationError, match="none of the issuer's keys fits Ed25519"):
        issuer.tokens(keys={"keys": [key | {"alg": "EdDSA"}]})


def test_a_secret_among_the_keys_refuses_them_all() -> None:
    """Under whatever use it stands: a set that gives one away, or a private key, is not the issuer's."""
    good = ISSUER.public()["keys"]
    private = OKPKey.generate_key("Ed25519").as_dict(private=True)
    secret = OctKey.generate_key(256).as_dict(private=True)
    for wrong in (private, secret, private | {"use": "enc"}, secret | {"alg": "HS256"}):
        with pytest.raises(ConfigurationError, match="secret or private") as caught:
            ISSUER.tokens(keys={"keys": [*good, wrong]})
        assert str(wrong.get("k") or wrong.get("d")) not in str(caught.value)


def test_no_key_of_a_set_verifies_a_shared_secret() -> None:
    """With several keys, with and without the id of one, HMAC under any of their texts is refused."""
    first, second = Issuer("RS256"), Issuer("RS256", kid="2")
    tokens = first.tokens(keys={"keys": first.public()["keys"] + second.public()["keys"]})
    _, claims, _ = first.token().split(".")
    for key in (first.key, second.key):
        for secret in (key.as_pem(private=False), json.dumps(key.as_dict(private=False)).encode()):
            for header in ({"kid": "1"}, {"kid": "2"}, {}):
                said = f"{_segment({'alg': 'HS256'} | header)}.{claims}"
                mac = hmac.digest(secret, said.encode(), "sha256")
                with pytest.raises(NoPrincipal):
                    tokens.verify(f"{said}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")
