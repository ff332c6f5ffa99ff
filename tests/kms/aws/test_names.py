# SPDX-License-Identifier: Apache-2.0
"""Which key a URI names, and where requests may go. No request is made here."""

import json
from pathlib import Path
from typing import Any

import pytest

from lacre.errors import ConfigurationError
from lacre.kms.aws import AwsKeyService, check_regions
from lacre.kms.aws.clients import AwsClients
from lacre.kms.aws.names import AwsKey, aws_region_of
from lacre.kms.calling import CallLimits
from lacre.kms.opening import open_key_services
from lacre.policy.loading import parse_policy
from lacre.policy.model import AwsSettings

ID = "0123abcd-0000-4000-8000-0123456789ab"
MRK = "mrk-" + "0123456789abcdef" * 2


def _settings(**given: Any) -> AwsSettings:
    return AwsSettings.model_validate({"regions": ("eu-central-1", "us-gov-west-1"), **given})


@pytest.mark.parametrize(("region", "partition"), [
    ("eu-central-1", "aws"),
    ("cn-north-1", "aws-cn"),
    ("us-gov-west-1", "aws-us-gov"),
    ("eusc-de-east-1", "aws-eusc"),
    ("us-iso-east-1", "aws-iso"),
])  # fmt: skip
@pytest.mark.usefixtures("chain")
def test_the_arn_has_the_regions_partition(region: str, partition: str) -> None:
    """China, GovCloud and the sovereign clouds have ARNs of their own, and each goes back to its URI."""
    clients = AwsClients(_settings(regions=(region,)))
    key = AwsKey.of(f"aws-kms://{region}/123456789012/key/{ID}")
    arn = key.arn(clients.partition(region))

    assert arn == f"arn:{partition}:kms:{region}:123456789012:key/{ID}"
    assert AwsKey.of_arn(arn) == key
    assert str(key) == f"aws-kms://{region}/123456789012/key/{ID}"


@pytest.mark.usefixtures("chain")
def test_a_region_nobody_knows_is_a_configuration_error() -> None:
    """A misspelt region is refused before any host name is made of it."""
    service = AwsKeyService.open(_settings(regions=("eu-nowhere-1",)), limits=CallLimits())
    settings = AwsKeyService.open(_settings(regions=("xx-nowhere-1",)), limits=CallLimits())

    assert repr(service) == "<AwsKeyService of eu-nowhere-1>"
    with pytest.raises(ConfigurationError, match="UnknownRegionError"):
        settings.mint(f"aws-kms://xx-nowhere-1/123456789012/key/{ID}", {})


@pytest.mark.parametrize("arn", [
    "", "x", f"arn:aws:kms:eu-central-1:123456789012:alias/{ID}", f"arn:aws:kms:eu-central-1:12:key/{ID}",
    f"arn:aws:s3:eu-central-1:123456789012:key/{ID}", f"arn:aws:kms:eu-central-1:123456789012:key/{ID}\n",
])  # fmt: skip
def test_what_is_no_arn_of_a_key_names_none(arn: str) -> None:
    """Aliases, other services and broken text are no key."""

    assert AwsKey.of_arn(arn) is None


@pytest.mark.parametrize("uri", ["local://pii", "openbao://transit/pii", "aws-kms://eu-central-1/x", "", "arn:aws:kms"])  # fmt: skip
def test_only_its_own_keys_are_taken(uri: str) -> None:
    """A URI of another service, or of none, is a configuration error."""
    with pytest.raises(ConfigurationError, match="AWS KMS holds the keys named"):
        AwsKey.of(uri)


@pytest.mark.parametrize(("url", "region"), [
    ("https://kms.eu-central-1.amazonaws.com", "eu-central-1"),
    ("https://kms-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ("https://vpce-0a-b.kms.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
    ("https://kms.eu-central-1.api.aws", "eu-central-1"),
    ("https://kms.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("https://kms.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    ("https://kms.us-iso-east-1.api.aws.ic.gov", "us-iso-east-1"),
    ("https://kms.us-isob-east-1.api.aws.scloud", "us-isob-east-1"),
    ("https://KMS.EU-WEST-1.AMAZONAWS.COM.", "eu-west-1"),
    ("https://s3.amazonaws.com", ""),
    ("https://kms.internal.example", None),
    ("https://kms.eu-central-1.amazonaws.com.evil.example", None),
    ("http://127.0.0.1:4566", None),
])  # fmt: skip
def test_an_endpoint_of_aws_names_its_region(url: str, region: str | None) -> None:
    """AWS' own host names say in which region they are; of other hosts nobody can tell."""

    assert aws_region_of(url) == region


@pytest.mark.parametrize(("keys", "given", "says"), [
    (["aws-kms://eu-west-1/123456789012/key/" + ID], {}, "a KMS key is in eu-west-1"),
    (["aws-kms://eu-west-1/alias/pii"], {}, "a KMS key is in eu-west-1"),
    ([], {"endpoint_url": "https://kms.us-east-1.amazonaws.com"}, "endpoint_url is in us-east-1"),
    ([], {"endpoint_url": "https://s3.amazonaws.com"}, "endpoint_url is in no region"),
    (["aws-kms://us-gov-west-1/alias/pii"], {"endpoint_url": "https://kms.eu-central-1.amazonaws.com"},
     "endpoint_url is in eu-central-1, and a KMS key in us-gov-west-1"),
    ([], {"endpoint_url": "https://kms.internal.example", "fips": True}, "both fips and endpoint_url"),
])  # fmt: skip
def test_nothing_leads_out_of_the_regions(
    keys: list[str], given: dict[str, Any], says: str
) -> None:
    """Keys, aliases and endpoints outside the allowed regions are refused before anything is called."""
    with pytest.raises(ConfigurationError, match=says):
        check_regions(_settings(**given), keys)
    if not keys:
        with pytest.raises(ConfigurationError, match=says):
            AwsKeyService.open(_settings(**given), limits=CallLimits())


def test_what_stays_in_the_regions_is_allowed() -> None:
    """Keys in the regions, with AWS' endpoint of that region or one of the own network, are right."""
    key = f"aws-kms://eu-central-1/123456789012/key/{ID}"
    for url in (
        None,
        "https://vpce-0a-b.kms.eu-central-1.vpce.amazonaws.com",
        "https://kms.internal.example",
    ):
        check_regions(_settings(endpoint_url=url), [key])


@pytest.mark.usefixtures("chain")
def test_a_pin_cannot_lead_out_either() -> None:
    """A key that reaches the service all the same is refused there, before credentials are looked for."""
    service = AwsKeyService.open(_settings(), limits=CallLimits())
    elsewhere = f"aws-kms://eu-west-1/123456789012/key/{ID}"

    with pytest.raises(ConfigurationError, match="regions does not allow eu-west-1"):
        service.unwrap(elsewhere, b"x", {})


def _rules_that_lead(url: str) -> str:
    builtin = {
        "Region": ("AWS::Region", "string"),
        "UseDualStack": ("AWS::UseDualStack", "boolean"),
        "UseFIPS": ("AWS::UseFIPS", "boolean"),
        "Endpoint": ("SDK::Endpoint", "string"),
    }
    return json.dumps({
        "version": "1.0",
        "parameters": {
            name: {"builtIn": known, "type": kind, "required": False, "documentation": ""}
            for name, (known, kind) in builtin.items()
        },
        "rules": [{
            "conditions": [], "type": "endpoint",
            "endpoint": {"url": url, "properties": {}, "headers": {}},
        }],
    })  # fmt: skip


@pytest.mark.parametrize("endpoint", [None, "https://kms.internal.example"])
@pytest.mark.parametrize("elsewhere", [
    "https://kms.us-east-1.amazonaws.com", "https://kms.eu-central-1.amazonaws.com.evil.example",
    "http://kms.eu-central-1.amazonaws.com",
])  # fmt: skip
@pytest.mark.usefixtures("chain")
def test_rules_of_endpoints_on_this_machine_lead_nowhere_else(
    endpoint: str | None, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore takes AWS_DATA_PATH before its own data; a request that it leads astray does not leave."""
    rules = tmp_path / "kms" / "2014-11-01" / "endpoint-rule-set-1.json"
    rules.parent.mkdir(parents=True)
    rules.write_text(_rules_that_lead(elsewhere))
    for name, value in {
        "DATA_PATH": str(tmp_path), "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "SESSION_TOKEN": "x",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    service = AwsKeyService.open(_settings(endpoint_url=endpoint), limits=CallLimits())

    with pytest.raises(ConfigurationError, match="elsewhere than"):
        service.unwrap(f"aws-kms://eu-central-1/123456789012/key/{ID}", b"x", {})


_POLICY = f"""
app = "shop"
env = "test"
service = "shop"
[key_store]
url = "sqlite:///keys.db"
[local]
signers = ["whoever"]
[aws]
regions = ["eu-central-1"]
[classes.pii]
fields = "aws-kms://REGION/123456789012/key/{ID}"
index = "aws-kms://eu-central-1/alias/pii-index"
[audit]
path = "looks.jsonl"
"""


def _opened(text: str) -> Any:
    return open_key_services(
        parse_policy(text, {}), base=Path(), identity=None, signers=(), memory=None,  # type: ignore[arg-type]
        keystore_id="0" * 32, environ={},
    )  # fmt: skip


@pytest.mark.usefixtures("chain")
def test_the_policy_opens_it() -> None:
    """A policy with a key in AWS KMS gets this service, with the policy's deadline."""
    services = _opened(_POLICY.replace("REGION", "eu-central-1"))

    assert list(services) == ["aws-kms"]
    assert isinstance(services["aws-kms"], AwsKeyService)


@pytest.mark.parametrize("more", ["", '[move]\nfrom = "aws-kms://eu-west-1/alias/{class}-{use}"\nuntil = 2030-01-01\n'])  # fmt: skip
def test_the_policy_is_guarded_as_a_whole(more: str) -> None:
    """A key of any class, and those that keys are moved from, are held against the regions when it opens."""
    text = _POLICY.replace("REGION", "eu-central-1" if more else "eu-west-1") + more

    with pytest.raises(ConfigurationError, match="a KMS key is in eu-west-1"):
        _opened(text)


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing SDK is a configuration error with the line that installs it."""
    import sys

    for name in [name for name in sys.modules if name.startswith("lacre.kms.aws")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(ConfigurationError, match="is aws-kms://, and what talks") as raised:
        _opened(_POLICY.replace("REGION", "eu-central-1"))
    assert raised.value.hint == "pip install 'lacre[aws]'"


@pytest.mark.parametrize(("fips", "environ", "host"), [
    (False, {}, "https://kms.eu-central-1.amazonaws.com"),
    (True, {}, "https://kms-fips.eu-central-1.amazonaws.com"),
    (False, {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://kms-fips.eu-central-1.amazonaws.com"),
    (False, {"AWS_ENDPOINT_URL": "https://evil.example"}, "https://kms.eu-central-1.amazonaws.com"),
    (False, {"AWS_ENDPOINT_URL_KMS": "https://evil.example"}, "https://kms.eu-central-1.amazonaws.com"),
    (True, {"AWS_ENDPOINT_URL_KMS": "https://evil.example"}, "https://kms-fips.eu-central-1.amazonaws.com"),
    (False, {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_REGION": "us-east-1"}, "https://kms-fips.eu-central-1.amazonaws.com"),
])  # fmt: skip
@pytest.mark.usefixtures("chain")
def test_only_the_settings_choose_the_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fips: bool, environ: dict[str, str], host: str
) -> None:
    """Neither the environment nor the shared configuration sends requests elsewhere; FIPS is FIPS' endpoint."""
    config = tmp_path / "config"
    config.write_text(
        "[default]\nendpoint_url = https://evil.example\nservices = s\n"
        "[services s]\nkms =\n  endpoint_url = https://evil.example\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    client = AwsClients(_settings(fips=fips)).client("kms", "eu-central-1", attempt=1.0)

    assert client.meta.endpoint_url == host


@pytest.mark.usefixtures("chain")
def test_a_client_is_set_as_the_limits_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt and no retry of botocore's; connecting and reading are together as long as an attempt."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    clients = AwsClients(_settings())
    client = clients.client("kms", "eu-central-1", attempt=1.5)
    config = client.meta.config

    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert config.connect_timeout + config.read_timeout == 1.5
    assert config.user_agent_extra == "lacre"
    assert config.parameter_validation is True
    assert client is clients.client("kms", "eu-central-1", attempt=1.5)
