# SPDX-License-Identifier: Apache-2.0
"""The example of the departments: its generator on an emulator's queue, and its images as their files say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.components.aws import AWS, statement

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "departments"
DOCKERFILES = sorted(EXAMPLE.glob("*.Dockerfile"))


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the generator, as Lambda imports it."""
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    from departments import generator

    generator._sqs.cache_clear()
    yield generator
    generator._sqs.cache_clear()


@pytest.fixture
def queue(moto: AWS) -> Iterator[str]:
    """The address of an empty queue."""
    sqs = moto.client("sqs")
    url = str(sqs.create_queue(QueueName="departments-production")["QueueUrl"])
    yield url
    sqs.delete_queue(QueueUrl=url)


def _instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return instruction and argument of each line of *dockerfile*, lines that go on joined."""
    text = dockerfile.read_text("utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], " ".join(line.partition(" ")[2].split())) for line in lines]


def test_the_generator_sends_a_message_for_each_department(
    generator: Any, queue: str, moto: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the right to send, and no other, it sends what seed 004 shows; it cannot receive."""
    only = statement("sqs:SendMessage", Resource="*")
    role = moto.principal(only, kind="role")
    for name, value in {**moto.environ(role), "QUEUE_URL": queue}.items():
        monkeypatch.setenv(name, value)

    sent = generator.handle({}, None)["sent"]
    found = moto.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    said = {
        body["department"]: body["data"] for body in (json.loads(each["Body"]) for each in found)
    }

    assert sorted(sent) == sorted(each["MessageId"] for each in found)
    assert sorted(said) == ["finance", "sales"]
    assert "only finance department can read" in said["finance"]
    with pytest.raises(ClientError, match="AccessDenied"):
        moto.client("sqs", role).receive_message(QueueUrl=queue)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_images_run_as_nobody_on_a_base_by_version(dockerfile: Path) -> None:
    """The program is user 10001, on a base that is named by version without a host, from packages by their hashes."""
    instructions = _instructions(dockerfile)
    stages = [argument.split(" AS ")[0] for name, argument in instructions if name == "FROM"]
    after = [name for name, _ in instructions]
    installs = [
        argument for name, argument in instructions if name == "RUN" and "pip install" in argument
    ]

    assert len(set(stages)) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", stages[0])
    assert [argument for name, argument in instructions if name == "USER"] == ["10001:10001"]
    assert after.index("USER") > max(i for i, name in enumerate(after) if name in ("RUN", "COPY"))
    assert "ADD" not in after
    assert installs
    for install in installs:
        for command in (part for part in install.split("&&") if "pip install" in part):
            assert "--require-hashes" in command or "--no-index" in command


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_images_copy_what_is_there(dockerfile: Path) -> None:
    """Whatever an image copies from the repository exists."""
    sources = [
        source
        for name, argument in _instructions(dockerfile)
        if name == "COPY" and "--from" not in argument
        for source in argument.split(" ")[:-1]
    ]

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
